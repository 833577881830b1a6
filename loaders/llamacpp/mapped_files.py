"""Checks that the files from which weights are mapped are still complete.

If a mapped file is truncated in place, the next access to the missing part crashes the program. So this is checked
before computing. A file that was deleted or replaced by another stays complete for the process that has mapped it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from errors import Unavailable


class MappedFiles:
    """Stores which files they were, and their length in bytes."""

    def __init__(self, paths: Sequence[str | bytes]) -> None:
        self._files = [(path, _found(path)) for path in paths]

    def check(self) -> None:
        """Raises: Unavailable if one has become shorter."""
        for path, before in self._files:
            now = _found(path)
            if before and now and now[:2] == before[:2] and now[2] < before[2]:
                raise Unavailable(
                    f"{Path(os.fsdecode(path)).name} was truncated while the model was loaded, so the model can "
                    "no longer be used. Restore the file, then load the model again."
                )


def _found(path: str | bytes) -> tuple[int, int, int] | None:
    """Disk, file and size; None if it does not exist."""
    try:
        found = Path(os.fsdecode(path)).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size
