"""Space on the disks, rights to write, and the folder of the caches. It must not know what will be installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

GIB = 2**30


def disk_problem(folders: Sequence[Path], needed: int) -> str:
    """Which of the folders' disks is too full, or ""."""
    for folder in folders:
        there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
        free = shutil.disk_usage(there).free
        if free < needed:
            return (
                f"The disk of {there} has {free / GIB:.1f} GiB free, and the installation needs {needed / GIB:.0f} GiB."
            )
    return ""


def can_write(folder: Path) -> bool:
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where uv keeps downloads and what it compiled."""
    home = Path(environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return Path(environ.get("UV_CACHE_DIR") or home / "uv")
