"""Ensures that an adapter is trained by one process at a time. Knows nothing of trainings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from errors import Conflict, NotWritable

#: Seconds to wait for a training that has just ended to release it.
_PATIENCE = 10


@contextlib.contextmanager
def lock_adapter(folder: Path) -> Iterator[None]:
    """Lock this adapter while inside, also against other processes. Raises: Conflict, NotWritable."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder.with_name(f".{folder.name}.lock"), timeout=_PATIENCE)
        lock.acquire()
    except filelock.Timeout:
        raise Conflict(
            f"The adapter {folder.name} is being trained by another process. Stop that training, wait for it to "
            "finish, or choose another name."
        ) from None
    except OSError as error:
        raise NotWritable(folder.parent, error) from None
    try:
        yield
    finally:
        lock.release()
