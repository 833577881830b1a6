"""The body of a request while it arrives: how large it may be, and how long it may take. For both servers.

A client that sends half a body and then nothing must not hold anything for ever; one with a slow line must get through.
So the time counts that we wait: between two pieces, and in all, where the time in all grows with what has come.
This module must not know what is in a body.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from errors import BodyTooSlow, TooLarge, UserError
from modules.web.guard import App, Message, Receive, Scope, Send, header, refuse


@dataclass(frozen=True)
class Pace:
    """How slow a body may be: seconds between two pieces; in all, `grace` seconds and one more each `rate` bytes."""

    idle: float = 20.0
    grace: float = 30.0
    rate: float = 1024.0


class Arriving:
    """A `receive` that gives up on a body. Raises: BodyTooSlow, TooLarge. What comes after the body may take its time.

    `too_large` makes the error, since the flag to raise is not the same everywhere.
    """

    def __init__(self, receive: Receive, most: int, pace: Pace, too_large: Callable[[], UserError]) -> None:
        self._receive = receive
        self._most = most
        self._pace = pace
        self._too_large = too_large
        self._waited = 0.0
        self._complete = False
        self.size = 0
        self.broken_off = False  # the client went away before all of it was there
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


def announced(scope: Scope) -> int | None:
    """The length that the header gives; 0 where there is none, None where it is no number."""
    length = header(scope, b"content-length") or "0"
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else None


class Bodies:
    """ASGI middleware for an application that reads bodies by itself, such as the page's: `most` is in MiB."""

    def __init__(self, app: App, most: int, flag: str, pace: Pace | None = None) -> None:
        self._app = app
        self._most = most
        self._flag = flag
        self._pace = pace or Pace()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = announced(scope)
        if length is None or length > self._most << 20:
            await self._refuse(send, self._too_large())
            return
        arriving = Arriving(receive, self._most << 20, self._pace, self._too_large)
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            # whoever reads the body turns our error into an answer of its own: ours is the one to send
            if begun or arriving.error is None:
                begun = True
                await send(message)

        with contextlib.suppress(BodyTooSlow, TooLarge):
            try:
                await self._app(scope, arriving, watched)
            except Exception:
                if not arriving.broken_off and (arriving.error is None or begun):
                    raise  # where the client has gone, nobody waits for an answer, and nothing of ours went wrong
        if arriving.error and not begun:
            await self._refuse(send, arriving.error)

    def _too_large(self) -> TooLarge:
        return TooLarge(self._most, self._flag)

    async def _refuse(self, send: Send, error: UserError) -> None:
        status, code = (408, "request_timeout") if isinstance(error, BodyTooSlow) else (413, "request_too_large")
        await refuse(send, status, str(error), code, {"connection": "close"})
