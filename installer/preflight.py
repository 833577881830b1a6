"""Checks everything that can be checked before an installation begins. It changes nothing and raises InstallStopped."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from installer.environment import rollback
from installer.errors import InstallStopped
from installer.hardware.disk import cache_folder, can_write, folder_size, format_bytes, project_cache, space_problem
from installer.layout import Layout
from installer.sizes import InstallSize

if sys.platform == "win32":
    import winreg

#: Windows' limit of 260 characters, minus installer_files\\env\\Lib\\site-packages\\ and the longest file of torch, and
#: of the page's packages.
LONG_PATH, TOO_LONG_PATH = 50, 124


def path_problem(root: Path) -> str:
    """Why an environment cannot work under this path, or "". Spaces, accents, quotes, $ and ; were tested and work."""
    text = str(root)
    if os.pathsep in text:
        return f"contains {os.pathsep!r}, which separates paths and does not work with Python environments"
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        return "contains a tab, a line break or another control character"
    if any("\udc80" <= char <= "\udcff" for char in text):
        return "contains bytes that are not UTF-8 text"
    return ""


def path_warnings(root: str, environ: Mapping[str, str], *, long_paths: bool) -> list[str]:
    """What may go wrong in this folder on Windows, in sentences; `long_paths`: whether paths over 260 characters are
    allowed.
    """
    found = []
    if len(root) > LONG_PATH and not long_paths:
        least = LONG_PATH if len(root) <= TOO_LONG_PATH else TOO_LONG_PATH
        reach = "torch allows" if len(root) <= TOO_LONG_PATH else "the program's packages and torch allow"
        found.append(
            f"The path of this folder has {len(root)} characters, but {reach} at most {least}, because Windows limits "
            "paths to 260 characters. Move the folder to a short path, such as C:\\text-generation-webui, or enable "
            "long paths in Windows."
        )
    clouds = [environ[name] for name in ("OneDrive", "OneDriveConsumer", "OneDriveCommercial") if environ.get(name)]
    low = root.lower()
    if any(low.startswith(cloud.lower()) for cloud in clouds) or "\\onedrive" in low:
        found.append(
            "This folder is in OneDrive, which would upload tens of thousands of files and every model, and may "
            "remove them from this disk. Move the folder out of OneDrive, for example to "
            "C:\\text-generation-webui."
        )
    return found


def long_paths_allowed() -> bool:
    """Whether paths may be longer than 260 characters: always, except on Windows without the setting for it."""
    if sys.platform == "win32":
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem") as key:
                return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
        except OSError:
            return False
    return True


def check_machine(layout: Layout) -> None:
    """Check everything except disk space, which depends on the GPU. Raises: InstallStopped."""
    problem = path_problem(layout.root)
    if problem:
        path = str(layout.root).encode("utf-8", "replace").decode()
        raise InstallStopped(f"This folder's path {problem}. Move it to another path, then start again: {path!r}")
    if not can_write(layout.files):
        raise InstallStopped(
            f"This folder is not writable: {layout.root}. Change its owner or permissions, then start again."
        )
    if os.name == "nt":
        for warning in path_warnings(str(layout.root), os.environ, long_paths=long_paths_allowed()):
            print(f"      {warning}", flush=True)
    cache = cache_folder(os.environ, layout)
    if cache == project_cache(layout):
        print(f"      Your account's cache folder is not writable; downloads are kept in {cache}.", flush=True)


def check_space(layout: Layout, needs: InstallSize, *, new: bool) -> bool:
    """Print the download size and check the disk space. `new`: the previous environment is kept.

    Returns whether there is space without deleting what is kept of the last update. Raises: InstallStopped.
    """
    print(
        f"      Downloading up to {needs.fetched / 1e9:.1f} GB, less what is cached from earlier; this needs up "
        f"to {format_bytes(needs.environment)} of disk space, and up to {format_bytes(needs.cache)} in the cache.",
        flush=True,
    )
    folders = {layout.files: needs.environment, cache_folder(os.environ, layout): needs.cache}
    problem = space_problem(folders)
    room = not problem
    before = folder_size(layout.last) if problem and rollback.has_previous(layout) else 0
    if problem and new:  # what is kept of the last update is deleted
        problem = space_problem(folders, before)
    if problem:
        more = f", or delete the previous environment ({format_bytes(before)}: --clean)" if before else ""
        raise InstallStopped(
            f"{problem} Free some disk space, or move the folder to another disk{more}, then start again."
        )
    return room
