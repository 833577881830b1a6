"""An adapter is trained by one process at a time: whoever trains it has taken it. Knows nothing of trainings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from errors import Conflict, NotWritable

#: Seconds in which a training that has just ended lets go.
_PATIENCE = 10


@contextlib.contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Nobody else trains this adapter meanwhile, in whatever process. Raises: Conflict, NotWritable."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder.with_name(f".{folder.name}.lock"), timeout=_PATIENCE)
        lock.acquire()
    except filelock.Timeout:
        raise Conflict(
            f"The adapter {folder.name} is being trained by another process. Stop it first, wait until it is done, or "
            "choose another name."
        ) from None
    except OSError as error:
        raise NotWritable(folder.parent, error) from None
    try:
        yield
    finally:
        lock.release()
