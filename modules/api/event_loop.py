"""The event loop, for whoever brings tokens to it: functions from other threads, sockets, timers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable


class EventLoop:
    """`loaders.pushed_stream.Loop`, for the loop in which it is created."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        # the usual one on Windows cannot
        self.watches = type(self.loop).add_reader is not asyncio.AbstractEventLoop.add_reader
        self._thread = threading.get_ident()

    def is_here(self) -> bool:
        return threading.get_ident() == self._thread

    def call(self, function: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the program is ending
            self.loop.call_soon_threadsafe(function)

    def watch(self, descriptor: int, readable: Callable[[], None]) -> None:
        self.loop.add_reader(descriptor, readable)

    def unwatch(self, descriptor: int) -> None:
        self.loop.remove_reader(descriptor)

    def later(self, seconds: float, function: Callable[[], None]) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, function)
