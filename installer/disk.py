"""Space on the disks, rights to write, and the folder of the caches. It must not know what will be installed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from installer.layout import Layout

GIB = 2**30


def disk_problem(folders: Sequence[Path], needed: int) -> str:
    """Which of the folders' disks is too full, or ""."""
    for folder in folders:
        there = _nearest(folder)
        free = shutil.disk_usage(there).free
        if free < needed:
            return (
                f"The disk of {there} has {free / GIB:.1f} GiB free, and the installation needs {needed / GIB:.0f} GiB."
            )
    return ""


def can_write(folder: Path) -> bool:
    """Whether the folder can be written to, or made. It is tried: rights alone do not tell, least of all root's."""
    there = _nearest(folder)
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        return False
    try:
        with tempfile.TemporaryDirectory(dir=there):
            return True
    except OSError:
        return False


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists. What may not be looked at counts as missing."""
    return next((path for path in (folder, *folder.parents) if os.access(path, os.F_OK)), folder)


def cache_folder(environ: Mapping[str, str], layout: Layout) -> Path:
    """Where uv keeps downloads and what it compiled; where that cannot be, a folder of ours."""
    ours = own_cache(layout)
    named, caches = environ.get("UV_CACHE_DIR"), environ.get("XDG_CACHE_HOME")
    try:
        folder = Path(named) if named else (Path(caches) if caches else Path("~/.cache").expanduser()) / "uv"
    except RuntimeError:  # an account without a home
        return ours
    return folder if can_write(folder) else ours


def own_cache(layout: Layout) -> Path:
    return layout.files / "cache"
