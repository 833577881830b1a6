"""One installation at a time in a folder. It must not know what an installation does."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from installer.layout import Layout

if sys.platform != "win32":
    import fcntl


@contextlib.contextmanager
def only_one(layout: Layout) -> Iterator[tuple[int, ...]]:
    """Lets one installation at a time into the folder; a second one waits."""
    if sys.platform != "win32":
        with (layout.files / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                print("Another installation is at work in this folder; waiting for it ...", flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield (file.fileno(),)
    else:
        yield ()
