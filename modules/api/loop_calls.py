"""Runs functions in the event loop on behalf of other threads. Everything that comes until the loop gets to it costs
one wake-up, so that the tokens of a step wake it once, however many replies they belong to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)


class LoopCalls:
    """For the loop in which it is created. `call` may be used from any thread."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._functions: deque[Callable[[], None]] = deque()
        self._waking = False

    def call(self, function: Callable[[], None]) -> None:
        """Run it soon, in order. It must be quick."""
        self._functions.append(function)
        if not self._waking:
            self._waking = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: the program is ending
                self.loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        self._waking = False  # first: what is appended from now on may come too late for this run
        for _ in range(len(self._functions)):
            try:
                self._functions.popleft()()
            except Exception:
                log.exception("In the event loop")
