"""Reads the metadata of a Hugging Face model folder: config.json, and which files it contains.

This module must not import transformers or torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loaders import safe_json

_WEIGHTS = (".safetensors", ".bin")


@dataclass(frozen=True)
class HFFolder:
    """A folder's metadata. Unknown values are "" or 0."""

    format: str = ""
    architecture: str = ""
    quantization: str = ""
    context_length: int = 0
    n_layers: int = 0
    has_template: bool = False
    problem: str | None = None


def read_folder(path: Path) -> HFFolder:
    """Read the folder; a damaged one is returned with the problem as a sentence, never as an error."""
    config_path = path / "config.json"
    if not config_path.is_file():
        return HFFolder(problem=f"The folder {path.name} contains neither a GGUF file nor a config.json.")
    try:
        config = safe_json.loads(config_path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return HFFolder(problem=f"The config.json of {path.name} cannot be read. Download it again.")
    if not isinstance(config, dict):
        return HFFolder(problem=f"The config.json of {path.name} is invalid. Download it again.")
    text = config.get("text_config")
    language = {**config, **text} if isinstance(text, dict) else config  # vision models nest it
    kind, quantization = _quantization(path, config)
    problem = None
    if not any(each.suffix in _WEIGHTS for each in path.iterdir()):
        problem = (
            f"The folder {path.name} contains no weights (.safetensors or .bin). Download the complete model again."
        )
    return HFFolder(
        format=kind,
        architecture=str(config.get("model_type", "")),
        quantization=quantization,
        context_length=_whole(language.get("max_position_embeddings")),
        n_layers=_whole(language.get("num_hidden_layers")),
        has_template=_has_template(path),
        problem=problem,
    )


def _quantization(path: Path, config: dict[str, Any]) -> tuple[str, str]:
    declared = config.get("quantization_config")
    declared = declared if isinstance(declared, dict) else {}
    method = str(declared.get("quant_method", "")).lower()
    bits = declared.get("bits")
    if not method and "exl2" in path.name.lower():
        method = "exl2"
    if not method and (path / "quantize_config.json").is_file():
        method = "gptq"
    if method in ("exl2", "exl3"):
        return method.upper(), f"{bits} bpw" if bits else ""
    if method in ("gptq", "awq"):
        return method.upper(), f"{bits} bit" if bits else ""
    return "Transformers", method or str(config.get("torch_dtype") or config.get("dtype") or "")


def _has_template(path: Path) -> bool:
    if any((path / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    try:
        return '"chat_template"' in (path / "tokenizer_config.json").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
