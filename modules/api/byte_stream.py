"""Passes bytes from whoever reads replies to the coroutine that sends them, all pending bytes at once; or past that
coroutine, while it has nothing to send.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from modules.web.body_writer import BodyWriter

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ByteStream:
    """The bytes of one response. `put` and `end` may be called from any thread, `take` by one coroutine."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: list[bytes] = []
        self._direct: BodyWriter | None = None  # while `take` waits for something to send
        self._lock = threading.Lock()
        self.waiting = 0  # bytes that were put and not taken yet
        self.put_at = time.monotonic()  # when something was last put
        self._ready = asyncio.Event()
        self._waking = self._begun = False
        self._ended = False
        self.refusal: BaseException | None = None  # an error before any output

    def put(self, data: bytes) -> None:
        self._begun = True
        self.put_at = time.monotonic()
        with self._lock:
            if self._direct and not self._items and self._direct.write(data):
                return
            self._items.append(data)
            self.waiting += len(data)
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

    async def take(self, direct: BodyWriter | None = None) -> bytes:
        """Everything that has been put since the last call, as soon as there is something; empty at the end. While it
        waits, `put` sends with `direct` what that can send.
        """
        if direct:
            direct.resume()
        while True:
            self._direct = direct
            try:
                await self._ready.wait()
            finally:
                with self._lock:  # nobody may be sending any more
                    self._direct = None
            self._ready.clear()
            ended = self._ended  # read before the data: what was put before the end is included then
            with self._lock:
                data = b"".join(self._items)
                self._items.clear()
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
