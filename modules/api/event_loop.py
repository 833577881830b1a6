"""The event loop, for whoever brings tokens to it: functions from other threads, sockets, timers.

All functions that come until the loop gets to them cost one wake-up, so that the tokens of a step wake it once, however
many replies they belong to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)


class EventLoop:
    """`loaders.pushed_stream.Loop`, for the loop in which it is created."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        # the usual one on Windows cannot
        self.watches = type(self.loop).add_reader is not asyncio.AbstractEventLoop.add_reader
        self._thread = threading.get_ident()
        self._functions: deque[Callable[[], None]] = deque()
        self._waking = False

    def is_here(self) -> bool:
        return threading.get_ident() == self._thread

    def call(self, function: Callable[[], None]) -> None:
        self._functions.append(function)
        if not self._waking:
            self._waking = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: the program is ending
                self.loop.call_soon_threadsafe(self._run)

    def watch(self, descriptor: int, readable: Callable[[], None]) -> None:
        self.loop.add_reader(descriptor, readable)

    def unwatch(self, descriptor: int) -> None:
        self.loop.remove_reader(descriptor)

    def later(self, seconds: float, function: Callable[[], None]) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, function)

    def _run(self) -> None:
        self._waking = False  # first: what is appended from now on may come too late for this run
        for _ in range(len(self._functions)):
            try:
                self._functions.popleft()()
            except Exception:
                log.exception("In the event loop")
