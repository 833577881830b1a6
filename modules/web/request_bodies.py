"""Limits the size and duration of request bodies. For both servers.

A client that sends half a body and then nothing must not hold resources forever; one with a slow connection must
succeed. So the waiting time is limited: between two chunks, and in total, where the total grows with the bytes
received. This module must not know what a body contains.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from errors import UserError
from modules.web.errors import BodyTooSlow, TooLarge
from modules.web.origin_middleware import ASGIApp, Message, Receive, Scope, Send, request_header, send_error


@dataclass(frozen=True)
class BodyPace:
    """How slow a body may be: seconds between two chunks; in total, `grace` seconds plus one per `rate` bytes."""

    idle: float = 20.0
    grace: float = 30.0
    rate: float = 1024.0


class BodyReceiver:
    """A `receive` that gives up on a slow body. Raises: BodyTooSlow, TooLarge. What comes after the body is not
    limited.

    `too_large` creates the error, because the flag to raise is not the same everywhere.
    """

    def __init__(self, receive: Receive, most: int, pace: BodyPace, too_large: Callable[[], UserError]) -> None:
        self._receive = receive
        self._most = most
        self._pace = pace
        self._too_large = too_large
        self._waited = 0.0
        self._complete = False
        self.size = 0
        self.broken_off = False  # the client disconnected before the body was complete
        self.error: UserError | None = None

    async def __call__(self) -> Message:
        if self.error:
            raise self.error
        if self._complete:
            return await self._receive()
        loop = asyncio.get_running_loop()
        left = self._pace.grace + self.size / self._pace.rate - self._waited
        began = loop.time()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, min(self._pace.idle, left)))
        except asyncio.TimeoutError:
            self.error = BodyTooSlow(self._waited + loop.time() - began)
            raise self.error from None
        self._waited += loop.time() - began
        self.size += len(message.get("body", b""))
        self.broken_off = message["type"] != "http.request"
        self._complete = self.broken_off or not message.get("more_body", False)
        if self.size > self._most:
            self.error = self._too_large()
            raise self.error
        return message


def content_length(scope: Scope) -> int | None:
    """The length that the header gives; 0 if there is none, None if it is not a number."""
    length = request_header(scope, b"content-length") or "0"
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else None


class BodyMiddleware:
    """ASGI middleware for an application that reads bodies itself, such as the page's: `most` is in MiB."""

    def __init__(self, app: ASGIApp, most: int, flag: str, pace: BodyPace | None = None) -> None:
        self._app = app
        self._most = most
        self._flag = flag
        self._pace = pace or BodyPace()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = content_length(scope)
        if length is None or length > self._most << 20:
            await self._refuse(send, self._too_large())
            return
        arriving = BodyReceiver(receive, self._most << 20, self._pace, self._too_large)
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            # the application turns our error into a response of its own: send ours instead
            if begun or arriving.error is None:
                begun = True
                await send(message)

        with contextlib.suppress(BodyTooSlow, TooLarge):
            try:
                await self._app(scope, arriving, watched)
            except Exception:
                if not arriving.broken_off and (arriving.error is None or begun):
                    raise  # the client has disconnected, so nobody waits for a response, and nothing went wrong here
        if arriving.error and not begun:
            await self._refuse(send, arriving.error)

    def _too_large(self) -> TooLarge:
        return TooLarge(self._most, self._flag)

    async def _refuse(self, send: Send, error: UserError) -> None:
        status, code = (408, "request_timeout") if isinstance(error, BodyTooSlow) else (413, "request_too_large")
        await send_error(send, status, str(error), code, {"connection": "close"})
