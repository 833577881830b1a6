"""Passes bytes from whoever reads replies to the coroutine that sends them, all pending bytes at once; in the loop's
own thread past that coroutine, while it has nothing to send.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ByteStream:
    """The bytes of one response. `put` and `end` may be called from any thread, `take` by one coroutine."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._items: deque[bytes] = deque()
        #: Sends bytes at once; False if that is not possible now. Set once the response has begun.
        self.write: Callable[[bytes], bool] | None = None
        self._idle = False  # whether `take` waits
        self._lock = threading.Lock()
        self.waiting = 0  # bytes that were put and not taken yet
        self._ready = asyncio.Event()
        self._waking = self._begun = False
        self._ended = False
        self.refusal: BaseException | None = None  # an error before any output

    def put(self, data: bytes) -> None:
        self._begun = True
        # this saves two turns of the loop, and all layers around the response
        if self.write and self._idle and not self._items and threading.get_ident() == self._thread and self.write(data):
            return
        with self._lock:
            self.waiting += len(data)
        self._items.append(data)
        self._wake()

    def refuse(self, error: BaseException) -> bool:
        """Set an error as the only result. False if something has been put already."""
        if self._begun or self.refusal:
            return False
        self.refusal = error
        return True

    def end(self) -> None:
        self._ended = True
        self._wake()

    async def take(self) -> bytes:
        """Everything that has been put since the last call, as soon as there is something; empty at the end."""
        while True:
            self._idle = True
            await self._ready.wait()
            self._idle = False
            self._ready.clear()
            ended = self._ended  # read before the data: what was put before the end is included then
            data = b"".join(self._items.popleft() for _ in range(len(self._items)))
            with self._lock:
                self.waiting -= len(data)
            if ended:
                self._ready.set()
            if data or ended:
                return data

    def _wake(self) -> None:
        if not self._waking:  # one call for everything that arrives until the loop runs it
            self._waking = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: the program is ending
                self._loop.call_soon_threadsafe(self._woken)

    def _woken(self) -> None:
        self._waking = False
        self._ready.set()


@asynccontextmanager
async def watch_disconnect(receive: Receive, left: Callable[[], object]) -> AsyncIterator[asyncio.Task[None]]:
    """Call `left` if the client disconnects while inside; the task is done then."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        left()

    task = asyncio.create_task(watch())
    try:
        yield task
    finally:
        task.cancel()
