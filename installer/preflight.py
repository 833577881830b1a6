"""Everything that can be found missing before anything is done: it looks, leaves nothing changed, and raises Stop."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from installer import keeping
from installer.disk import amount, cache_folder, can_write, own_cache, size, space_problem
from installer.errors import Stop
from installer.layout import Layout
from installer.sizes import Size

if sys.platform == "win32":
    import winreg

#: Windows' limit of 260 characters, less installer_files\env\Lib\site-packages\ and the longest file of torch, and of
#: the page's packages.
LONG_PATH, TOO_LONG_PATH = 50, 124


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


def path_warnings(root: str, environ: Mapping[str, str], *, long_paths: bool) -> list[str]:
    """What may go wrong in this folder on Windows, in sentences; `long_paths`: whether paths over 260 are allowed."""
    found = []
    if len(root) > LONG_PATH and not long_paths:
        reach = "torch has" if len(root) <= TOO_LONG_PATH else "the page's packages and torch have"
        found.append(
            f"The path of this folder has {len(root)} characters. Windows allows 260 in all, and {reach} files for "
            f"which {LONG_PATH if len(root) <= TOO_LONG_PATH else TOO_LONG_PATH} are the most: move the folder to a "
            "short path, such as C:\\text-generation-webui, or allow long paths in Windows."
        )
    clouds = [environ[name] for name in ("OneDrive", "OneDriveConsumer", "OneDriveCommercial") if environ.get(name)]
    low = root.lower()
    if any(low.startswith(cloud.lower()) for cloud in clouds) or "\\onedrive" in low:
        found.append(
            "This folder lies in OneDrive, which would upload tens of thousands of files and every model, and may take "
            "them off this disk again. Move the folder out of it, such as to C:\\text-generation-webui."
        )
    return found


def long_paths_allowed() -> bool:
    """Whether paths may be longer than 260 characters: everywhere but on Windows, and there where it is set so."""
    if sys.platform == "win32":
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem") as key:
                return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
        except OSError:
            return False
    return True


def check_machine(layout: Layout) -> None:
    """Everything but the space, which depends on the card; raises Stop."""
    problem = path_problem(layout.root)
    if problem:
        path = str(layout.root).encode("utf-8", "replace").decode()
        raise Stop(f"This folder's path {problem}. Move it to another path and start again: {path!r}")
    if not can_write(layout.files):
        raise Stop(f"This folder cannot be written to: {layout.root}. Change its owner or permissions and start again.")
    if os.name == "nt":
        for warning in path_warnings(str(layout.root), os.environ, long_paths=long_paths_allowed()):
            print(f"      {warning}", flush=True)
    cache = cache_folder(os.environ, layout)
    if cache == own_cache(layout):
        print(f"      The account's cache folder cannot be written to; downloads are kept in {cache}.", flush=True)


def check_space(layout: Layout, needs: Size, *, new: bool) -> bool:
    """Says how much comes, and that there is room for it; raises Stop. `new`: the environment before it is kept.

    Returns whether there is room without throwing away what is kept of the last update.
    """
    print(
        f"      Up to {needs.fetched / 1e9:.1f} GB are fetched now, less what is kept from earlier; on the disk it "
        f"takes up to {amount(needs.environment)}, and up to {amount(needs.cache)} in the cache.",
        flush=True,
    )
    folders = {layout.files: needs.environment, cache_folder(os.environ, layout): needs.cache}
    problem = space_problem(folders)
    room = not problem
    before = size(layout.last) if problem and keeping.kept(layout) else 0
    if problem and new:  # what is kept of the last update makes way
        problem = space_problem(folders, before)
    if problem:
        more = f", or throw away the environment before this one ({amount(before)}: --clean)" if before else ""
        raise Stop(f"{problem} Free some space, or move the folder to another disk{more}, and start again.")
    return room
