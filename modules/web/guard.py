"""ASGI middleware that turns away strangers' pages before anything is read. It decides nothing itself: Visitors does.

It needs no framework, so that the page's server and the API's server stand behind the same one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from modules.web.visitors import Visitors

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def header(scope: Scope, name: bytes) -> str | None:
    """A header of a request, or None."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


class Guard:
    """Refuses wrong hosts (400) and foreign origins (403)."""

    def __init__(self, app: App, visitors: Visitors) -> None:
        self._app = app
        self._visitors = visitors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        host, origin = header(scope, b"host"), header(scope, b"origin")
        status, why = 400, self._visitors.refuses_host(host)
        if why is None:
            status, why = 403, self._visitors.refuses_origin(origin, host)
        if why is None:
            await self._app(scope, receive, send)
            return
        log.warning("Refused %s: %s", scope.get("method", "a websocket"), ascii(why))
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        await refuse(send, status, why, "invalid_host" if status == 400 else "origin_not_allowed")


async def refuse(send: Send, status: int, why: str, code: str, headers: dict[str, str] | None = None) -> None:
    """Answer with an error object in OpenAI's form."""
    kind = "authentication_error" if status == 401 else "invalid_request_error"
    body = json.dumps({"error": {"message": why, "type": kind, "param": None, "code": code}}).encode()
    given = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
