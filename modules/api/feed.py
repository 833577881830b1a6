"""From the threads that read replies to the one coroutine that sends them: what has come goes out together."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Feed:
    """Bytes for one answer. `put` and `end` may be called from any thread, `take` by one coroutine."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: deque[bytes] = deque()
        self._ready = asyncio.Event()
        self._waking = self._begun = False
        self._ended = False
        self.refusal: BaseException | None = None  # an error before anything was said

    def put(self, data: bytes) -> None:
        self._begun = True
        self._items.append(data)
        self._wake()

    def refuse(self, error: BaseException) -> bool:
        """Say that there will be nothing but this error. False when something has been put already."""
        if self._begun or self.refusal:
            return False
        self.refusal = error
        return True

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
            with contextlib.suppress(RuntimeError):  # the loop is closed: the program ends
                self._loop.call_soon_threadsafe(self._woken)

    def _woken(self) -> None:
        self._waking = False
        self._ready.set()


@asynccontextmanager
async def watched(receive: Receive, left: Callable[[], object]) -> AsyncIterator[asyncio.Task[None]]:
    """Call `left` if the client closes the connection before the block ends; the task is done then."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        left()

    task = asyncio.create_task(watch())
    try:
        yield task
    finally:
        task.cancel()
