"""Forwards cancellations to the model's process: at once if the event supports listeners, else by a thread that polls
all others.

It must not know what is cancelled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from loaders.cancel import CancelEvent

_LOOK = 0.02  # seconds: within a token


class CancelWatch:
    """The cancel events of running requests, by key. `cancelled` is called with a key, possibly more than once."""

    def __init__(self, cancelled: Callable[[int], None]) -> None:
        self._cancelled = cancelled
        self._listeners: dict[int, tuple[CancelEvent, Callable[[], None]]] = {}
        self._plain: dict[int, threading.Event] = {}  # those without listeners
        self._guard = threading.Lock()
        self._looking = False

    def watch(self, key: int, event: threading.Event) -> None:
        """Watch this event until the key is removed."""
        if isinstance(event, CancelEvent):

            def tell() -> None:
                self._cancelled(key)

            self._listeners[key] = (event, tell)
            event.listen(tell)
            return
        with self._guard:
            self._plain[key] = event
            if not self._looking:
                self._looking = True
                threading.Thread(target=self._look, name="cancelling", daemon=True).start()

    def forget(self, key: int) -> None:
        """It has ended: remove the key."""
        if kept := self._listeners.pop(key, None):
            kept[0].forget(kept[1])
        self._plain.pop(key, None)

    def event(self, key: int) -> threading.Event | None:
        """The event watched under a key."""
        kept = self._listeners.get(key)
        return kept[0] if kept else self._plain.get(key)

    def close(self) -> None:
        """Stop watching."""
        self._plain.clear()

    def _look(self) -> None:
        pause = threading.Event()
        while True:
            with self._guard:
                waiting = tuple(self._plain.items())
                if not waiting:
                    self._looking = False
                    return
            for key, event in waiting:
                if event.is_set():
                    self._plain.pop(key, None)
                    self._cancelled(key)
            pause.wait(_LOOK)
