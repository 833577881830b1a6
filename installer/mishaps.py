"""What nobody foresaw, as a sentence: the disk that is full, the place that may not be written to, and all the rest.

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
    errno.ENOSPC: "The disk is full. Free some space",
    errno.EDQUOT: "The account's share of the disk is used up. Free some space",
    errno.EROFS: "The disk can only be read. Make it writable",
    errno.EACCES: "A place may not be written to. Change its owner or permissions",
    errno.EPERM: "A place may not be written to. Change its owner or permissions",
    errno.EIO: "The disk does not answer rightly; it may be failing. Look after it and your files",
}

#: Errors of a disk, not of a file that is in use.
NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def sentence(layout: Layout, error: Exception) -> str:
    """What happened, what to do, and where more about it stands."""
    log = _log(layout, error)
    more = f" More about it is in {log}." if log else ""
    meaning = _MEANINGS.get(error.errno or 0) if isinstance(error, OSError) else ""
    if meaning:
        what, _, todo = meaning.partition(". ") if ". " in meaning else meaning.partition("; ")
        name = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        return f"{what}{name}. {todo[:1].upper()}{todo[1:]}, and start again.{more}"
    words = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {words[-1]}" if words else type(error).__name__
    return (
        f"The installer met something that it does not know ({said}). Start again; if it happens again, report it"
        f"{' with that file' if log else ''}.{more}"
    )


def _log(layout: Layout, error: Exception) -> Path | None:
    """Where the traceback is: our log, else the system's temporary folder; None where nothing can be written."""
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
