"""What is remembered of the last installation: installer_files/state.json.

It reads and writes the file and must not interpret the values; plan.py does.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from installer.layout import Layout

#: The type of each entry. An entry of another type counts as missing.
KINDS: dict[str, type] = {
    **dict.fromkeys(("complete", "cuda118", "cuda128", "torch"), bool),
    **dict.fromkeys(("gpu", "cuda118_driver", "llama", "llama_how", "processor", "root", "python"), str),
    **dict.fromkeys(("fingerprint", "commit", "why", "said", "mark"), str),
    **dict.fromkeys(("parts", "held", "wanting", "wanted", "asked"), dict),
    "packages": list,
    "tries": int,
}


def read_state(layout: Layout, path: Path | None = None) -> dict[str, Any]:
    """The last run's state.json, or the file at `path`.

    An unreadable file counts as missing, so that the installation is repaired.
    """
    try:
        state = json.loads((path or layout.state).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return _sound(state) if isinstance(state, dict) else {}


def _sound(state: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {key: value for key, value in state.items() if isinstance(value, KINDS.get(key, object))}
    if not all(isinstance(name, str) for name in kept.get("packages", [])):
        del kept["packages"]
    if "wanted" in kept:
        kept["wanted"] = _sound(kept["wanted"])
        if not {"said", "mark", "tries"} <= set(kept["wanted"]):
            del kept["wanted"]
    return kept


def write_state(layout: Layout, state: Mapping[str, Any], path: Path | None = None) -> None:
    """Write it atomically: after a crash there is the old file or the new one. `path`: another file.

    Raises: OSError.
    """
    path = path or layout.state
    part = path.with_suffix(".part")
    try:
        with part.open("w", encoding="utf-8") as file:
            json.dump(state, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    with contextlib.suppress(OSError):  # sync the name as well; Windows cannot open folders and does not need it
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
