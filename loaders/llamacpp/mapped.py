"""The files that weights are mapped from: whether all of each is still there.

A mapped file that is cut short in place ends the program at the next look at what is gone. So whoever is about to
compute asks first. A file that was deleted or replaced by another stays whole for who has mapped it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from errors import Unavailable


class MappedFiles:
    """Remembers which files they were, and how long, in bytes."""

    def __init__(self, paths: Sequence[str | bytes]) -> None:
        self._files = [(path, _found(path)) for path in paths]

    def check(self) -> None:
        """Raises: Unavailable, where one has become shorter."""
        for path, before in self._files:
            now = _found(path)
            if before and now and now[:2] == before[:2] and now[2] < before[2]:
                raise Unavailable(
                    f"{Path(os.fsdecode(path)).name} was cut short while the model was loaded, so nothing can be "
                    "computed with it. Put the file back, and load the model again."
                )


def _found(path: str | bytes) -> tuple[int, int, int] | None:
    """Disk, file and size; None where there is none."""
    try:
        found = Path(os.fsdecode(path)).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size
