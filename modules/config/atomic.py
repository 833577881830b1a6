"""Files that are either the old or the new ones, never half of each, also when the power fails.

The text goes to a temporary file in the same folder, is forced to the disk, and then takes the name. This module
must not know what the files mean.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

_TRIES = 10  # on Windows a virus scanner or a reader may hold the file for a moment
_PAUSE = 0.05  # seconds between two tries


def write_text(path: Path, text: str) -> None:
    """Replace the file by this text (UTF-8, newlines as they are). Raises: OSError; the old file stays then."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace the file by this value as readable JSON. Raises: OSError; the old file stays then."""
    try:
        data = json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair, as a browser can send: escaped, nothing is lost
        data = json.dumps(value, indent=2).encode("utf-8")
    write_bytes(path, data + b"\n")


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file by these bytes. Raises: OSError; the old file stays then."""
    path = Path(os.path.realpath(path))  # a link of the user's keeps being a link
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        # os.open lets the system apply the user's umask; tempfile would make files that only the owner can read
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(temporary, flags, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def replace(temporary: Path, path: Path) -> None:
    """Give the finished temporary file its name, for good. Both lie in the same folder. Raises: OSError."""
    for attempt in range(_TRIES):
        try:
            temporary.replace(path)
            break
        except PermissionError:
            if os.name != "nt" or attempt == _TRIES - 1:
                raise
            time.sleep(_PAUSE)
    if os.name == "posix":  # the new name itself must reach the disk, too
        with contextlib.suppress(OSError):
            descriptor = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
