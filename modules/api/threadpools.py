"""Runs the blocking services outside of the event loop. Short work, long waits and clients' templates have separate
threads, so that counting tokens waits neither for a loading model nor for a client's template.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread
from anyio import CancelScope, CapacityLimiter
from fastapi import Request

from errors import Cancelled
from loaders.pushed_stream import Loop
from modules.api.byte_stream import watch_disconnect
from modules.api.event_loop import EventLoop
from modules.generation.completions import CompletionBatch
from modules.prompts.sandbox.process import PROCESSES

T = TypeVar("T")


class Threadpools:
    """The threads of one server."""

    def __init__(self, most: int) -> None:
        self._short = CapacityLimiter(16)
        self._long = CapacityLimiter(most)
        self._templates = CapacityLimiter(PROCESSES)
        self._loop: EventLoop | None = None

    @property
    def loop(self) -> Loop:
        """The running event loop."""
        if self._loop is None or self._loop.loop is not asyncio.get_running_loop():
            self._loop = EventLoop()
        return self._loop

    async def short(self, function: Callable[[], T]) -> T:
        """Run something that takes milliseconds."""
        return await anyio.to_thread.run_sync(function, limiter=self._short)

    async def template(self, request: Request, function: Callable[[], T]) -> T:
        """Run something with a client's template, which may take seconds. Raises: Cancelled if the client disconnects
        while it is waiting.
        """
        with CancelScope() as scope:
            async with watch_disconnect(request.receive, scope.cancel):
                return await anyio.to_thread.run_sync(function, limiter=self._templates)
        raise Cancelled

    async def for_model(self, request: Request, function: Callable[[], T], *, ready: bool) -> T:
        """Run something that takes milliseconds once its model is there; `ready`: it is."""
        return await (self.short(function) if ready else self.long(request, function, threading.Event()))

    async def long(self, request: Request, function: Callable[[], T], cancel: threading.Event) -> T:
        """Run something that waits for the model; `cancel` is set if the client disconnects meanwhile."""
        async with watch_disconnect(request.receive, cancel.set):
            return await anyio.to_thread.run_sync(function, limiter=self._long)


async def collect_replies(request: Request, answers: CompletionBatch, reads: Loop) -> None:
    """Wait until all replies are complete. `reads` is the loop that calls it. Raises: Cancelled if the client
    disconnects; the replies end then.
    """
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def finished() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the program is ending
            loop.call_soon_threadsafe(done.set)

    try:
        async with watch_disconnect(request.receive, answers.cancel) as watch:
            answers.read(finished, loop=reads)
            await done.wait()
            if watch.done():
                raise Cancelled
    finally:
        answers.cancel()
