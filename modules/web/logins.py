"""Hardens the page's login: the cookie is only sent by our own pages, and password guessing is slowed down.

Gradio's own login does neither. This ASGI middleware knows its route and nothing else of it.
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from python_multipart import parse_form
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field

from modules.web.errors import TooLarge, TooManyGuesses
from modules.web.origin_middleware import ASGIApp, Message, Receive, Scope, Send, request_header, send_error

log = logging.getLogger(__name__)

_LARGEST = 1 << 20  # bytes of a login request
_LONGEST_NAME = 200  # characters
_FURTHER = "\0"  # shared entry for everything that is not counted under its own name

_SAME_SITE = re.compile(rb";\s*samesite=[^;]*", re.IGNORECASE)
_SECURE = re.compile(rb";\s*secure\s*(?=;|$)", re.IGNORECASE)


class StrictCookieMiddleware:
    """Every cookie becomes `SameSite=Strict`, so that browsers send it for our own pages only; over https, `Secure`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        secure = scope.get("scheme") == "https"

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, make_strict(value, secure=secure) if name.lower() == b"set-cookie" else value)
                    for name, value in message.get("headers", ())
                ]
            await send(message)

        await self._app(scope, receive, answer)


def make_strict(cookie: bytes, *, secure: bool) -> bytes:
    """A Set-Cookie header with SameSite=Strict, replacing any other value."""
    plain = _SAME_SITE.sub(b"", cookie)
    if secure and not _SECURE.search(plain):
        plain += b"; Secure"
    return plain + b"; SameSite=Strict"


@dataclass
class _Wrong:
    """The wrong guesses of one client, or at one account: how many per name of the other, and when the last one was."""

    last: float
    under: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(self.under.values())


class LoginAttempts:
    """Counts the wrong passwords of each client and of each account. Some are free, then the waiting time doubles.

    A correct login clears only the guesses at its own account: nobody can clear guesses at another account by logging
    in to their own.
    """

    FREE = 5  # of a client
    FREE_OF_AN_ACCOUNT = (
        20  # from all clients: many may be one person, and an attacker should not lock the owner out quickly
    )
    LONGEST_WAIT = 300.0  # seconds
    FORGOTTEN = 3600.0  # seconds after the last guess
    MOST_CLIENTS = 4096
    MOST_NAMES = 64  # accounts per client; guesses at further ones are counted together

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: dict[str, _Wrong] = {}  # by client, in order of use
        self._at: dict[str, _Wrong] = {}  # by account

    def wait(self, client: str, account: str = "") -> float:
        """Seconds until this client may try again at this account."""
        return max(
            self._pause(self._wrong.get(client), self.FREE),
            self._pause(self._at.get(account) if account else None, self.FREE_OF_AN_ACCOUNT),
        )

    def begin(self, client: str, account: str = "") -> None:
        """A guess, counted as wrong until it turns out to be right, so that parallel guesses count as well."""
        self._count(self._wrong, client, account)
        if account:
            self._count(self._at, account, client)

    def right(self, client: str, account: str = "") -> None:
        """The password was right: clears this account and this client's guesses at it."""
        self._at.pop(account, None)
        if held := self._wrong.get(client):
            held.under.pop(account, None)
            if not held.under:
                del self._wrong[client]

    def _pause(self, held: _Wrong | None, free: int) -> float:
        if held is None or held.count < free or self._clock() - held.last > self.FORGOTTEN:
            return 0.0
        pause = min(self.LONGEST_WAIT, 2.0 ** min(held.count - free + 1, 30))
        return max(0.0, held.last + pause - self._clock())

    def _count(self, table: dict[str, _Wrong], key: str, other: str) -> None:
        now = self._clock()
        held = table.pop(key, None)
        if held is None or now - held.last > self.FORGOTTEN:
            held = _Wrong(now)
        if other not in held.under and len(held.under) >= self.MOST_NAMES:
            other = _FURTHER
        held.under[other] = held.under.get(other, 0) + 1
        held.last = now
        table[key] = held
        while len(table) > self.MOST_CLIENTS:
            table.pop(next(iter(table)))


class LoginLimitMiddleware:
    """ASGI middleware before the login: after several wrong passwords, a client has to wait."""

    def __init__(self, app: ASGIApp, guesses: LoginAttempts | None = None) -> None:
        self._app = app
        self._guesses = guesses or LoginAttempts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"].rstrip("/") != "/login":
            await self._app(scope, receive, send)
            return
        client = network_of((scope.get("client") or ("?",))[0])
        body = await _body(receive)
        if body is None:
            await send_error(send, 413, str(TooLarge(_LARGEST >> 20)), "request_too_large", {"connection": "close"})
            return
        account = login_account(request_header(scope, b"content-type") or "", body)
        if (seconds := self._guesses.wait(client, account)) > 0:
            error = TooManyGuesses(seconds)
            await send_error(send, 429, str(error), "too_many_guesses", {"retry-after": str(max(1, round(seconds)))})
            return
        self._guesses.begin(client, account)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] == 200:
                    self._guesses.right(client, account)
                elif self._guesses.wait(client, account) > 0:
                    log.warning("Repeated failed logins from %s", client)
            await send(message)

        given = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return given.pop() if given else await receive()

        await self._app(scope, again, answer)


async def _body(receive: Receive) -> bytes | None:
    """The complete body; None if it is larger than a login or incomplete."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = bool(message.get("more_body", False))
        if message["type"] != "http.request" or len(body) > _LARGEST:
            return None
    return body


def login_account(content_type: str, body: bytes) -> str:
    """The user name of a login, the last if there are several, as Gradio reads it; "" if there is none."""
    names: list[str] = []
    plain = content_type.lower().startswith("multipart/")

    def read(words: bytes | None) -> str:
        text = (words or b"").decode("utf-8", "replace")
        return text if plain else unquote_plus(text)

    def found(given: Field) -> None:
        if read(given.field_name) == "username":
            names.append(read(given.value).strip())

    with contextlib.suppress(FormParserError, UnicodeError):
        parse_form({"Content-Type": content_type.encode("latin-1")}, io.BytesIO(body), found, lambda _: None)
    return names[-1][:_LONGEST_NAME] if names else ""


def network_of(address: str) -> str:
    """Whose guesses are counted together: an IPv4 address, or an IPv6 network, which is one client's."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found), 64), strict=False))
    return str(found)
