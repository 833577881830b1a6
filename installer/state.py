"""What is remembered of the last installation: installer_files/state.json.

It writes and reads, and must not judge what the values mean; that is work.py's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from installer.layout import Layout


def read_state(layout: Layout) -> dict[str, Any]:
    """The last run's state.json; an unreadable one counts as none, so that the installation is repaired."""
    try:
        state = json.loads(layout.state.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(layout: Layout, state: Mapping[str, Any], path: Path | None = None) -> None:
    """All of it or nothing: after a crash the old file is there, or the new one. `path`: another place for it."""
    path = path or layout.state
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(state, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
