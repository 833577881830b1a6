"""A Hugging Face model folder: config.json, file sizes, and the context length to use.

Imports nothing heavy. Loaders add what they need in subclasses.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import ModelFileError
from loaders import safe_json
from loaders.hf_common.architecture import explain_unsupported
from loaders.shared_options import LARGEST_DEFAULT_CONTEXT

_UNKNOWN_CONTEXT = 2048


@dataclass(frozen=True)
class ModelFolder:
    """A folder with config.json. `weights` is the size of its weight files in bytes."""

    path: Path
    config: dict[str, Any]
    weights: int

    def number(self, *names: str) -> int:
        """The first of these integers in config.json, also one level down in text_config; 0 without."""
        inner = self.config.get("text_config")
        for holder in (self.config, inner if isinstance(inner, dict) else {}):
            for name in names:
                value = holder.get(name)
                if isinstance(value, int) and value > 0:
                    return value
        return 0


def read_config(path: Path, loader: str, files: str) -> dict[str, Any]:
    """The folder's config.json. `loader` and `files` are used in errors: what loads folders with which files.

    Raises: ModelFileError, also for an architecture that generates no text.
    """
    if not path.is_dir():
        raise ModelFileError(path.name, f"{loader} loads folders with config.json and {files}, not single files.")
    try:
        config = safe_json.loads((path / "config.json").read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ModelFileError(path.name, "the folder has no config.json. Download the complete model again.") from None
    except (OSError, ValueError):
        raise ModelFileError(path.name, "its config.json cannot be read. Download it again.") from None
    if not isinstance(config, dict):
        raise ModelFileError(path.name, "its config.json is invalid. Download it again.")
    if why := explain_unsupported(config):
        raise ModelFileError(path.name, why)
    return config


def list_files(path: Path, pattern: str) -> list[Path]:
    """The files of a folder that match."""
    return [file for file in path.glob(pattern) if file.is_file()]


def sum_sizes(files: Iterable[Path]) -> int:
    """Their total size in bytes."""
    return sum(file.stat().st_size for file in files)


def choose_context_length(requested: int, own: int, notes: list[str], *, reach: float = 1, step: int = 1) -> int:
    """The context in tokens, a multiple of `step`; the reason is appended to the notes.

    `requested` is 0 for no request; `own` is the length that the model was trained with, 0 where that is not known;
    `reach` is the factor by which options extend it.
    """
    if requested:
        tokens = -(-requested // step) * step
        notes.append(f"context: {tokens:,} tokens, as requested")
        if own and tokens > own * reach:
            notes.append(f"the model was trained with {own:,} tokens: quality may drop beyond that")
        return tokens
    own = own or _UNKNOWN_CONTEXT
    tokens = max(min(own, LARGEST_DEFAULT_CONTEXT) // step, 1) * step
    notes.append(
        f"context: {tokens:,} tokens" + (f" of the model's {own:,}" if own > tokens else ", the model's maximum")
    )
    return tokens
