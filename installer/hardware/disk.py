"""Disk space, write permission and cache folders. It must not know what will be installed."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from installer.layout import Layout

GIB = 2**30


def disk_problem(folders: Sequence[Path], needed: int) -> str:
    """Which of the folders' disks has less than `needed` bytes free, or ""."""
    for folder in folders:
        there = _nearest(folder)
        free = shutil.disk_usage(there).free
        if free < needed:
            needs = math.ceil(needed / GIB)
            return f"The disk of {there} has {free / GIB:.1f} GiB free, but the installation needs {needs} GiB."
    return ""


def space_problem(needs: Mapping[Path, int], freed: int = 0) -> str:
    """As disk_problem, with bytes for each folder; needs on the same disk are added up.

    `freed`: bytes that the installation deletes first from the disk of the first folder.
    """
    disks: dict[int, tuple[Path, int]] = {}
    for folder, needed in needs.items():
        there = _nearest(folder)
        first, sum_ = disks.get(there.stat().st_dev, (there, -freed if not disks else 0))
        disks[there.stat().st_dev] = first, sum_ + needed
    return next(filter(None, (disk_problem([there], needed) for there, needed in disks.values())), "")


def used_bytes(folders: Sequence[Path]) -> int:
    """Bytes used on the folders' disks, counting each disk once."""
    disks = {}
    for folder in folders:
        with contextlib.suppress(OSError):
            there = _nearest(folder)
            disks[there.stat().st_dev] = shutil.disk_usage(there).used
    return sum(disks.values())


def folder_size(folder: Path) -> int:
    """Bytes of the files in a folder; 0 if it does not exist."""
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118  # ten thousands of them
    return found


def format_bytes(count: int) -> str:
    """A number of bytes as readable text."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.0f} MiB"


def can_write(folder: Path) -> bool:
    """Whether the folder can be written to or created. Tested by writing: permissions alone are not reliable, least of
    all for root.
    """
    there = _nearest(folder)
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        return False
    try:
        with tempfile.TemporaryDirectory(dir=there):
            return True
    except OSError:
        return False


def _nearest(folder: Path) -> Path:
    """The folder, or its nearest existing parent. A folder that may not be read counts as missing."""
    return next((path for path in (folder, *folder.parents) if os.access(path, os.F_OK)), folder)


def cache_folder(environ: Mapping[str, str], layout: Layout) -> Path:
    """Where uv keeps downloads and builds; a folder of ours if that is not possible."""
    names = ("UV_CACHE_DIR", "UV_CONFIG_FILE", "UV_NO_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HOME", "PATH",
             "LOCALAPPDATA", "APPDATA", "USERPROFILE", "SYSTEMROOT")  # fmt: skip
    known = tuple((name, environ[name]) for name in names if name in environ)
    there = layout.python.with_name("uv.exe" if os.name == "nt" else "uv")
    uv = str(there) if there.exists() else shutil.which("uv", path=environ.get("PATH")) or ""
    folder = (_uv_says(uv, known) if uv else None) or uv_default_cache(environ)
    return folder if folder and can_write(folder) else project_cache(layout)


@functools.lru_cache(maxsize=8)
def _uv_says(uv: str, environ: tuple[tuple[str, str], ...]) -> Path | None:
    """The output of `uv cache dir`, which reads uv.toml as well as the variables."""
    try:
        ran = subprocess.run(
            [uv, "cache", "dir"], env=dict(environ), capture_output=True, text=True, errors="replace", timeout=30,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    said = ran.stdout.strip()
    return Path(said).absolute() if ran.returncode == 0 and said else None


def uv_default_cache(environ: Mapping[str, str], platform: str = sys.platform) -> Path | None:
    """The default cache folder of uv; None for an account without a home folder."""
    if named := environ.get("UV_CACHE_DIR"):
        return Path(named).absolute()  # child processes have another working folder
    caches = user_caches(environ, platform)
    return caches and (caches / "uv" / "cache" if platform == "win32" else caches / "uv")


def user_caches(environ: Mapping[str, str], platform: str = sys.platform) -> Path | None:
    """The account's cache folder; None if it has none. A relative path counts as none, as for uv."""
    if platform == "win32":
        local = environ.get("LOCALAPPDATA")
        return Path(local) if local else None
    if (caches := Path(environ.get("XDG_CACHE_HOME", ""))).is_absolute():
        return caches
    try:
        home = Path("~/.cache").expanduser()
    except RuntimeError:  # an account without a home folder
        return None
    return home if home.is_absolute() and environ.get("HOME", "/") else None


def project_cache(layout: Layout) -> Path:
    return layout.files / "cache"
