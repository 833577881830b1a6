"""Allows one installation at a time in a folder. It must not know what an installation does."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from installer.layout import Layout

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


@contextlib.contextmanager
def install_lock(layout: Layout) -> Iterator[tuple[int, ...]]:
    """Hold the lock while inside; a second process waits. Yields what child processes inherit of the lock."""
    with (layout.files / "lock").open("a+") as file:
        if sys.platform == "win32":
            lock_on_windows(file.fileno(), msvcrt)
            yield ()  # Windows releases it when this process ends; its children cannot hold it
        else:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                _waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            yield (file.fileno(),)


def lock_on_windows(number: int, msvcrt: Any, sleep: Callable[[float], None] = time.sleep) -> None:
    """Lock the first byte of the open file of this number; waits as long as another process holds it."""
    said = False
    while True:
        try:
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        except OSError:
            if not said:
                _waiting()
            said = True
            sleep(0.5)
        else:
            return


def _waiting() -> None:
    print("Another installation is running in this folder; waiting for it to finish ...", flush=True)
