"""ASGI middleware that refuses requests from other sites' pages before anything is read, and sets the CORS headers.

It does not decide about addresses itself: OriginRules does. It needs no framework, so that the page's and the API's
server can both use it; their own CORS headers are removed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from modules.web.origins import OriginRules

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class KeyRules(Protocol):
    """What the middleware must know of API keys. A page has to know a key to send it: a browser never adds one by
    itself.
    """

    @property
    def exist(self) -> bool:
        """Whether there is any key."""

    @property
    def needed(self) -> bool:
        """Whether nothing important is answered without one."""

    def carried(self, scope: Scope) -> bool:
        """Whether this request has a valid one."""


def request_header(scope: Scope, name: bytes) -> str | None:
    """A header of a request, or None."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def is_preflight(scope: Scope) -> bool:
    """Whether a browser asks in advance what a page may send."""
    asked = scope.get("method") == "OPTIONS" and request_header(scope, b"access-control-request-method") is not None
    return asked and request_header(scope, b"origin") is not None


class OriginMiddleware:
    """Refuses wrong hosts (400) and other origins (403), answers preflights, and writes the CORS headers.

    `credentials`: pages of origins that the user has named may send the login cookie.
    """

    def __init__(
        self, app: ASGIApp, visitors: OriginRules, keys: KeyRules | None = None, *, credentials: bool = False
    ) -> None:
        self._app = app
        self._visitors = visitors
        self._keys = keys
        self._credentials = credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        known = self._shows_key(scope)
        status, why = (0, None) if known or self._answers_all(scope) else self._refusal(scope)
        if why is not None:
            log.warning("Refused %s: %s", scope.get("method", "a websocket"), ascii(why))
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await send_error(send, status, why, "invalid_host" if status == 400 else "origin_not_allowed")
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        cors = self._cors(scope, known=known)
        if is_preflight(scope):
            await send({"type": "http.response.start", "status": 204, "headers": cors})
            await send({"type": "http.response.body", "body": b""})
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [
                    pair for pair in message.get("headers", ()) if not pair[0].lower().startswith(b"access-control-")
                ]
                message["headers"] = [*own, *cors]
            await send(message)

        await self._app(scope, receive, answer)

    def _shows_key(self, scope: Scope) -> bool:
        """Whether the page behind this request sends a key, or announces that it will.

        A preflight never contains the key itself; it names the header in which the page wants to send it.
        """
        if self._keys is None or not self._keys.exist:
            return False
        if is_preflight(scope):
            wanted = (request_header(scope, b"access-control-request-headers") or "").lower().split(",")
            return bool({"authorization", "x-api-key"} & {each.strip() for each in wanted})
        return self._keys.carried(scope)

    def _answers_all(self, scope: Scope) -> bool:
        """If a key is needed anyway, a request without one is refused later by the API, whoever sends it."""
        return self._keys is not None and self._keys.needed and not is_preflight(scope)

    def _refusal(self, scope: Scope) -> tuple[int, str | None]:
        host, origin = request_header(scope, b"host"), request_header(scope, b"origin")
        if why := self._visitors.refuses_host(host):
            return 400, why
        return 403, self._visitors.refuses_origin(origin, host)

    def _cors(self, scope: Scope, *, known: bool) -> list[tuple[bytes, bytes]]:
        """The headers that let a page read the response: pages that send a key, pages of named origins, and our own."""
        origin, host = request_header(scope, b"origin"), request_header(scope, b"host")
        if origin is None:
            return []
        if not known and self._visitors.refuses_origin(origin, host):
            return [(b"vary", b"Origin")]
        found = [(b"access-control-allow-origin", origin.encode("latin-1", "replace")), (b"vary", b"Origin")]
        if self._credentials and origin.rstrip("/") in {each.rstrip("/") for each in self._visitors.origins}:
            found.append((b"access-control-allow-credentials", b"true"))
        if not is_preflight(scope):
            return [*found, (b"access-control-expose-headers", b"x-request-id")]
        wanted = request_header(scope, b"access-control-request-headers") or "authorization, content-type"
        found += [
            (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
            (b"access-control-allow-headers", wanted.encode("latin-1", "replace")),
            (b"access-control-max-age", b"600"),
        ]
        if request_header(scope, b"access-control-request-private-network"):
            found.append((b"access-control-allow-private-network", b"true"))
        return found


async def send_error(
    send: Send, status: int, why: str, code: str | None, headers: dict[str, str] | None = None
) -> None:
    """Respond with an error object in OpenAI's form."""
    kind = "authentication_error" if status == 401 else "invalid_request_error"
    body = json.dumps({"error": {"message": why, "type": kind, "param": None, "code": code}}).encode()
    given = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
