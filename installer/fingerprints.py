"""The stamps by which a change of what is wanted is noticed, one for each part: the packages, llama.cpp, torch.

They come from the requirements files and from the values of the build tables, not from their words. It must not know
how anything is installed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from installer import llama_builds, requirements, torch_builds
from installer.layout import Layout

LLAMA_FILES = ("installer/llama_release.json",)
TORCH_FILES = ("requirements-torch.txt", "requirements-exllamav2.txt")


def fingerprints(layout: Layout) -> dict[str, str]:
    """What an installation of each part is made from now. Raises: Stop."""
    return {
        "main": _stamp(str(requirements.RECIPE), requirements.others(layout)),
        "llama": _stamp(requirements.llama(layout), _table(llama_builds), *_texts(layout, LLAMA_FILES)),
        "torch": _stamp(*_texts(layout, TORCH_FILES), _table(torch_builds)),
    }


def changed(layout: Layout, state: Mapping[str, Any]) -> set[str]:
    """The parts that differ from what the installation was made from; torch only where it is there. Raises: Stop."""
    known = state.get("parts")
    if not isinstance(known, Mapping):  # by an earlier version of the installer, which stamped requirements.txt alone
        return set() if state.get("fingerprint") == requirements.fingerprint(layout) else {"main"}
    parts = {name for name, stamp in fingerprints(layout).items() if known.get(name) != stamp}
    return parts if state.get("torch") else parts - {"torch"}


def _texts(layout: Layout, names: Iterable[str]) -> list[str]:
    """Of the files that are there."""
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
    """The module's constants, written the same way in every process."""
    constants = {name: _plain(value) for name, value in vars(module).items() if name.strip("_").isupper()}
    return json.dumps(constants, sort_keys=True)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (set, frozenset)):  # their order is another one in each process
        return sorted(json.dumps(_plain(each), sort_keys=True) for each in value)
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__
