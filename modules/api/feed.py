"""From the threads that read replies to the one coroutine that sends them: what has come goes out together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Feed:
    """Bytes for one answer. `put` and `end` may be called from any thread, `take` by one coroutine."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: deque[bytes] = deque()
        self._ready = asyncio.Event()
        self._waking = False
        self._ended = False

    def put(self, data: bytes) -> None:
        self._items.append(data)
        self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    async def take(self) -> bytes:
        """All that has come since, as soon as there is something; empty at the end."""
        while True:
            await self._ready.wait()
            self._ready.clear()
            ended = self._ended  # before looking: what was put before the end is seen then
            data = b"".join(self._items.popleft() for _ in range(len(self._items)))
            if ended:
                self._ready.set()
            if data or ended:
                return data

    def _wake(self) -> None:
        if not self._waking:  # one call for all that comes until the loop has time
            self._waking = True
            try:
                self._loop.call_soon_threadsafe(self._woken)
            except RuntimeError:  # the loop is closed: the program ends
                pass

    def _woken(self) -> None:
        self._waking = False
        self._ready.set()


async def gone(receive: Receive) -> None:
    """Returns when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
