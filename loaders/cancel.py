"""The event that cancels a request and notifies listeners at once. It must not know what is cancelled."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable


class CancelEvent(threading.Event):
    """An event that calls listeners when it is set: in the thread that sets it, possibly more than once."""

    def __init__(self) -> None:
        super().__init__()
        # no lock: the garbage collector may set it while a lock is held
        self._listeners: list[Callable[[], object]] = []

    def listen(self, listener: Callable[[], object]) -> None:
        """Call it when the event is set; at once if it is set already. It must be quick and must not raise."""
        self._listeners.append(listener)
        if self.is_set():
            listener()

    def forget(self, listener: Callable[[], object]) -> None:
        """Stop calling it."""
        with contextlib.suppress(ValueError):
            self._listeners.remove(listener)

    def set(self) -> None:
        super().set()
        for listener in tuple(self._listeners):
            listener()
