"""Turns unexpected errors into sentences: a full disk, a read-only folder, and everything else.

The traceback goes to a log file, never to the user. It must not know what was being done.
"""

from __future__ import annotations

import errno
import os
import tempfile
import time
import traceback
from pathlib import Path

from installer.layout import Layout

_MEANINGS = {
    errno.ENOSPC: "The disk is full. Free some disk space",
    errno.EDQUOT: "Your account's disk quota is used up. Free some disk space",
    errno.EROFS: "The disk is read-only. Make it writable",
    errno.EACCES: "Permission denied. Change the owner or permissions",
    errno.EPERM: "Permission denied. Change the owner or permissions",
    errno.EIO: "The disk reports errors and may be failing. Check it and back up your files",
}

#: Disk errors, as opposed to a file in use.
NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def describe_error(layout: Layout, error: Exception) -> str:
    """What happened, what to do, and where to find the details."""
    log = _log(layout, error)
    more = f" See {log} for details." if log else ""
    meaning = _MEANINGS.get(error.errno or 0) if isinstance(error, OSError) else ""
    if meaning:
        what, _, todo = meaning.partition(". ") if ". " in meaning else meaning.partition("; ")
        name = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        return f"{what}{name}. {todo[:1].upper()}{todo[1:]}, then start again.{more}"
    words = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {words[-1]}" if words else type(error).__name__
    return (
        f"Unexpected error in the installer ({said}). Start again; if it happens again, report "
        f"it{' with that file' if log else ''}.{more}"
    )


def _log(layout: Layout, error: Exception) -> Path | None:
    """Where the traceback is: our log, else the system's temporary folder; None if nothing can be written."""
    text = f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n{''.join(traceback.format_exception(error))}\n"
    folders = [layout.log] if layout.files.is_dir() else []
    for path in (*folders, Path(_temporary()) / f"text-generation-webui-{os.getpid()}.log"):
        try:
            with path.open("a", encoding="utf-8") as log:
                log.write(text)
        except OSError:
            continue
        return path
    return None


def _temporary() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:
        return os.curdir
