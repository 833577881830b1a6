"""Atomic file writes: after a crash or power failure, a file has its old or its new contents, never a mix.

The text is written to a temporary file in the same folder, synced to disk and renamed. This module must not know what
the files mean.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

from errors import Unavailable

_TRIES = 10  # on Windows a virus scanner or a reader may keep the file open for a moment
_PAUSE = 0.05  # seconds between two attempts


def write_text(path: Path, text: str) -> None:
    """Replace the file by this text (UTF-8, newlines unchanged). Raises: OSError; the old file stays then."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace the file by this value as readable JSON. Raises: OSError; the old file stays then."""
    try:
        data = json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8")
    except UnicodeEncodeError:  # lone surrogates, as a browser can send, are escaped, so that nothing is lost
        data = json.dumps(value, indent=2).encode("utf-8")
    write_bytes(path, data + b"\n")


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file by these bytes. Raises: OSError; the old file stays then."""
    path = Path(os.path.realpath(path))  # a symbolic link stays a link
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        # os.open applies the user's umask; tempfile would create files that only the owner can read
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


def delete_file(path: Path) -> None:
    """Delete a file. Raises: Unavailable."""
    try:
        path.unlink()
    except OSError as error:
        raise Unavailable(f"{path} cannot be deleted ({error.strerror}).") from None


def replace(temporary: Path, path: Path) -> None:
    """Rename the finished temporary file, durably. Both are in the same folder. Raises: OSError."""
    for attempt in range(_TRIES):
        try:
            temporary.replace(path)
            break
        except PermissionError:
            if os.name != "nt" or attempt == _TRIES - 1:
                raise
            time.sleep(_PAUSE)
    if os.name == "posix":  # sync the rename as well
        with contextlib.suppress(OSError):
            descriptor = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
