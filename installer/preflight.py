"""Everything that can be found missing before anything is done: it looks, leaves nothing changed, and raises Stop."""

from __future__ import annotations

import os
from pathlib import Path

from installer.disk import GIB, cache_folder, can_write, disk_problem, own_cache
from installer.errors import Stop
from installer.layout import Layout

NEEDED_NEW, NEEDED_UPDATE = 2 * GIB, GIB  # measured: 1 GiB at the peak, compiling and caches included; CUDA adds 1


def path_problem(root: Path) -> str:
    """Why an environment cannot work under this path, or "". Spaces, accents, quotes, $ and ; were tried and work."""
    text = str(root)
    if os.pathsep in text:
        return f"contains {os.pathsep!r}, which separates paths: Python environments cannot work with it"
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        return "contains a tab, a line break or another control character"
    if any("\udc80" <= char <= "\udcff" for char in text):
        return "contains bytes that are not UTF-8 text"
    return ""


def check_machine(layout: Layout, new: bool) -> None:
    """Everything that can be found missing without changing anything; raises Stop."""
    problem = path_problem(layout.root)
    if problem:
        path = str(layout.root).encode("utf-8", "replace").decode()
        raise Stop(f"This folder's path {problem}. Move it to another path and start again: {path!r}")
    if not can_write(layout.files):
        raise Stop(f"This folder cannot be written to: {layout.root}. Change its owner or permissions and start again.")
    cache = cache_folder(os.environ, layout)
    if cache == own_cache(layout):
        print(f"      The account's cache folder cannot be written to; downloads are kept in {cache}.", flush=True)
    problem = disk_problem([layout.files, cache], NEEDED_NEW if new else NEEDED_UPDATE)
    if problem:
        raise Stop(f"{problem} Free some space, or move the folder to another disk, and start again.")
