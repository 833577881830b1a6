"""The login of the page, hardened: its cookie stays with pages of our own, and passwords cannot be guessed at speed.

Gradio does the login itself and has neither. ASGI middleware that knows its route and nothing else of it.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import time
from collections.abc import Callable

from errors import TooManyGuesses
from modules.web.guard import App, Message, Receive, Scope, Send, refuse

log = logging.getLogger(__name__)

_SAME_SITE = re.compile(rb";\s*samesite=[^;]*", re.IGNORECASE)
_SECURE = re.compile(rb";\s*secure\s*(?=;|$)", re.IGNORECASE)


class StrictCookies:
    """Every cookie is `SameSite=Strict`, so that the browser sends it for our own pages alone; over https, `Secure`."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        secure = scope.get("scheme") == "https"

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, strict(value, secure=secure) if name.lower() == b"set-cookie" else value)
                    for name, value in message.get("headers", ())
                ]
            await send(message)

        await self._app(scope, receive, answer)


def strict(cookie: bytes, *, secure: bool) -> bytes:
    """A Set-Cookie header that says SameSite=Strict, whatever it said of that before."""
    plain = _SAME_SITE.sub(b"", cookie)
    if secure and not _SECURE.search(plain):
        plain += b"; Secure"
    return plain + b"; SameSite=Strict"


class Guesses:
    """Counts the wrong passwords of each client. `free` ones cost nothing, each further one doubles the wait."""

    FREE = 5
    LONGEST_WAIT = 300.0  # seconds
    FORGOTTEN = 3600.0  # seconds after the last guess
    MOST_CLIENTS = 4096

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: dict[str, tuple[int, float]] = {}  # client -> guesses, time of the last; last used, last to go

    def wait(self, client: str) -> float:
        """Seconds until this client may try again."""
        count, last = self._wrong.get(client, (0, 0.0))
        if count < self.FREE or self._clock() - last > self.FORGOTTEN:
            return 0.0
        pause = min(self.LONGEST_WAIT, 2.0 ** min(count - self.FREE + 1, 30))
        return max(0.0, last + pause - self._clock())

    def begin(self, client: str) -> None:
        """A guess, counted as a wrong one until it proves right: so several at once are as many."""
        count, last = self._wrong.pop(client, (0, 0.0))
        now = self._clock()
        self._wrong[client] = (1 if now - last > self.FORGOTTEN else count + 1, now)
        while len(self._wrong) > self.MOST_CLIENTS:
            self._wrong.pop(next(iter(self._wrong)))

    def right(self, client: str) -> None:
        """The password was right: nothing is held against this client."""
        self._wrong.pop(client, None)


class LoginLimit:
    """ASGI middleware before the login: after some wrong passwords, a client has to wait."""

    def __init__(self, app: App, guesses: Guesses | None = None) -> None:
        self._app = app
        self._guesses = guesses or Guesses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"].rstrip("/") != "/login":
            await self._app(scope, receive, send)
            return
        client = network_of((scope.get("client") or ("?",))[0])
        if (seconds := self._guesses.wait(client)) > 0:
            error = TooManyGuesses(seconds)
            await refuse(send, 429, str(error), "too_many_guesses", {"retry-after": str(max(1, round(seconds)))})
            return
        self._guesses.begin(client)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] == 200:
                    self._guesses.right(client)
                elif self._guesses.wait(client) > 0:
                    log.warning("Wrong passwords for the page, again and again, from %s", client)
            await send(message)

        await self._app(scope, receive, answer)


def network_of(address: str) -> str:
    """Whose guesses are counted together: an IPv4 address, or an IPv6 network, all of which is one client's."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found), 64), strict=False))
    return str(found)
