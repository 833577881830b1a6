"""Which conversations a reply is being written into; at most one writer per conversation.

It must not know what is written or where it is stored.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from errors import Conflict
from modules.chat.reply import ActiveReply

_ENDING = 1.0  # seconds to wait at shutdown until replies are stored


class ActiveReplies:
    """By conversation, the reply that is being written, or a change that takes its place. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant: the garbage collector may release a reply while the lock is held
        self._live: dict[str, ActiveReply] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._live))

    def __len__(self) -> int:
        return len(self._live)

    def get(self, id: str) -> ActiveReply | None:
        return self._live.get(id)

    def reserve(self, id: str) -> ActiveReply:
        """Reserve this conversation for one writer until `release`. Raises: Conflict."""
        with self._lock:
            if id in self._live:
                raise Conflict(
                    "A reply is already being generated in this conversation. Wait for it to finish, or press Stop."
                )
            self._live[id] = live = ActiveReply()
            return live

    def release(self, id: str, live: ActiveReply) -> None:
        """Calling it again does nothing, even if another writer holds the conversation by then."""
        with self._lock:
            if self._live.get(id) is live:
                del self._live[id]

    @contextmanager
    def held(self, id: str) -> Iterator[ActiveReply]:
        """Reserve the conversation while inside. Raises: Conflict."""
        live = self.reserve(id)
        try:
            yield live
        finally:
            self.release(id, live)

    def stop(self, id: str, *, thought: bool = False) -> bool:
        """Stop the reply, or only its reasoning, whoever requested it; False if there is none."""
        live = self._live.get(id)
        if live and thought:
            return live.end_thought()
        if live:
            live.stop()
        return live is not None

    def keep(self) -> None:
        """Save all replies that are being written."""
        for live in tuple(self._live.values()):
            live.keep()

    def close(self) -> None:
        """Stop all replies, and wait briefly until they are stored."""
        end = time.monotonic() + _ENDING
        for live in tuple(self._live.values()):
            live.stop()
        while self._live and time.monotonic() < end:
            time.sleep(0.02)
