"""What is remembered of the last installation: installer_files/state.json.

It writes and reads, and must not judge what the values mean; that is work.py's.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from installer.layout import Layout


def read_state(layout: Layout, path: Path | None = None) -> dict[str, Any]:
    """The last run's state.json, or what lies at `path`.

    An unreadable one counts as none, so that the installation is repaired.
    """
    try:
        state = json.loads((path or layout.state).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(layout: Layout, state: Mapping[str, Any], path: Path | None = None) -> None:
    """All of it or nothing: after a crash the old file is there, or the new one. `path`: another place for it.

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
    with contextlib.suppress(OSError):  # the name, too; Windows opens no folders, and needs it not
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
