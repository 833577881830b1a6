"""Which conversations are being written into, and that there is one writer to each.

It must not know what is written, nor where it is stored.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from errors import Conflict
from modules.chat.reply import Live

_ENDING = 1.0  # seconds for replies to be stored at the program's end


class UnderWay:
    """By conversation, the reply that is being written, or a change that takes its place. Safe with several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a reply may be let go of, and released, anywhere: also inside
        self._live: dict[str, Live] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._live))

    def __len__(self) -> int:
        return len(self._live)

    def get(self, id: str) -> Live | None:
        return self._live.get(id)

    def reserve(self, id: str) -> Live:
        """From now on nobody else may write into this conversation, until `release`. Raises: Conflict."""
        with self._lock:
            if id in self._live:
                raise Conflict("A reply is being written in this conversation. Wait until it is done, or press Stop.")
            self._live[id] = live = Live()
            return live

    def release(self, id: str, live: Live) -> None:
        """Calling it again does nothing, also where the conversation is somebody else's by now."""
        with self._lock:
            if self._live.get(id) is live:
                del self._live[id]

    @contextmanager
    def held(self, id: str) -> Iterator[Live]:
        """The conversation, reserved for the block. Raises: Conflict."""
        live = self.reserve(id)
        try:
            yield live
        finally:
            self.release(id, live)

    def stop(self, id: str, *, thought: bool = False) -> bool:
        """End the reply, or its thought alone, whoever asked for it; False without one."""
        live = self._live.get(id)
        if live and thought:
            return live.end_thought()
        if live:
            live.stop()
        return live is not None

    def keep(self) -> None:
        """Write down all replies, as far as they have come."""
        for live in tuple(self._live.values()):
            live.keep()

    def close(self) -> None:
        """End all replies, and wait a moment until they are stored."""
        end = time.monotonic() + _ENDING
        for live in tuple(self._live.values()):
            live.stop()
        while self._live and time.monotonic() < end:
            time.sleep(0.02)
