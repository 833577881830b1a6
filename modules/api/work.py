"""Services block; the event loop must not. Short work, long waits and templates of clients have threads of their own,
so that counting tokens stands neither behind a model that loads nor behind a stranger's program.
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
from modules.api.feed import watched
from modules.generation.completions import Answers
from modules.prompts.template_process import PROCESSES

T = TypeVar("T")


class Workers:
    """The threads of one server."""

    def __init__(self, most: int) -> None:
        self._short = CapacityLimiter(16)
        self._long = CapacityLimiter(most)
        self._templates = CapacityLimiter(PROCESSES)

    async def short(self, function: Callable[[], T]) -> T:
        """Something that takes milliseconds."""
        return await anyio.to_thread.run_sync(function, limiter=self._short)

    async def template(self, request: Request, function: Callable[[], T]) -> T:
        """Something that runs a client's template, which may take seconds. Raises: Cancelled, when the client goes
        away while it waits for its turn.
        """
        with CancelScope() as scope:
            async with watched(request.receive, scope.cancel):
                return await anyio.to_thread.run_sync(function, limiter=self._templates)
        raise Cancelled

    async def long(self, request: Request, function: Callable[[], T], cancel: threading.Event) -> T:
        """Something that waits for the model; `cancel` is set when the client goes away meanwhile."""
        async with watched(request.receive, cancel.set):
            return await anyio.to_thread.run_sync(function, limiter=self._long)


async def collect(request: Request, answers: Answers) -> None:
    """Wait until all replies are complete. Raises: Cancelled, when the client goes away; they end then."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def finished() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the program ends
            loop.call_soon_threadsafe(done.set)

    try:
        async with watched(request.receive, answers.cancel) as watch:
            answers.read(finished)
            await done.wait()
            if watch.done():
                raise Cancelled
    finally:
        answers.cancel()
