"""Fingerprints that show whether the packages, llama.cpp or torch must be installed again.

They are computed from the requirements files and from the values of the build tables, not from the wording of the code.
It must not know how anything is installed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from installer.environment import requirements
from installer.layout import Layout
from installer.llama_cpp import llama_builds
from installer.torch import torch_builds

LLAMA_FILES = ("installer/llama_cpp/llama_release.json",)
TORCH_FILES = ("requirements-torch.txt", "requirements-exllamav2.txt")


def fingerprints(layout: Layout) -> dict[str, str]:
    """The fingerprint of each part, as an installation would write it now. Raises: InstallStopped."""
    return {
        "main": _stamp(str(requirements.RECIPE), requirements.other_requirements(layout)),
        "llama": _stamp(requirements.llama_requirement(layout), _table(llama_builds), *_texts(layout, LLAMA_FILES)),
        "torch": _stamp(*_texts(layout, TORCH_FILES), _table(torch_builds)),
    }


def changed_parts(layout: Layout, state: Mapping[str, Any]) -> set[str]:
    """The parts that differ from the last installation; torch only if it is installed. Raises: InstallStopped."""
    known = state.get("parts")
    if not isinstance(known, Mapping):  # from an older installer, which had one fingerprint for requirements.txt
        return set() if state.get("fingerprint") == requirements.requirements_fingerprint(layout) else {"main"}
    parts = {name for name, stamp in fingerprints(layout).items() if known.get(name) != stamp}
    return parts if state.get("torch") else parts - {"torch"}


def _texts(layout: Layout, names: Iterable[str]) -> list[str]:
    """The texts of the files that exist."""
    texts = []
    for name in names:
        with contextlib.suppress(OSError):
            texts.append((layout.root / name).read_bytes().decode("utf-8", "replace"))
    return texts


def _stamp(*texts: str) -> str:
    """Line ends do not count: git changes them on Windows."""
    lines = ["\n".join(text.splitlines()) for text in texts]
    return hashlib.sha256("\0".join(lines).encode()).hexdigest()[:16]


def _table(module: ModuleType) -> str:
    """The module's constants, formatted identically in every process."""
    constants = {name: _plain(value) for name, value in vars(module).items() if name.strip("_").isupper()}
    return json.dumps(constants, sort_keys=True)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (set, frozenset)):  # sets have a different order in each process
        return sorted(json.dumps(_plain(each), sort_keys=True) for each in value)
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__
