"""What every API request passes: an id, its key, CORS, the limits, and a line in the log. Before any work is done."""

from __future__ import annotations

import contextlib
import logging
import time
import uuid

from errors import TooBusy, TooLarge, WrongKey
from modules.api.failures import answer as error_answer
from modules.api.failures import failure
from modules.api.keys import ADMIN, Keys, given_keys
from modules.web.guard import App, Message, Receive, Scope, Send, header, refuse
from modules.web.visitors import Visitors

log = logging.getLogger(__name__)

#: Open to everyone who gets this far: a script asks whether the server is up, a person reads how to use it.
_OPEN = ("/v1/internal/health", "/health")


class Gate:
    """ASGI middleware. `most_body` in MiB, `most_requests` at the same time."""

    def __init__(self, app: App, keys: Keys, visitors: Visitors, most_body: int, most_requests: int) -> None:
        self._app = app
        self._keys = keys
        self._visitors = visitors
        self._most_body = most_body
        self._most_requests = most_requests
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0
        id = scope["request_id"] = f"req-{uuid.uuid4().hex[:12]}"
        cors = self._cors(scope)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *cors, (b"x-request-id", id.encode())]
            await send(message)

        try:
            await self._pass(scope, receive, answer)
        finally:
            seconds = time.monotonic() - began
            client = (scope.get("client") or ("?",))[0]
            # the path alone: a query may hold what is nobody's business
            log.info(
                "%s %s %s %s: %s in %.2f s",
                id,
                client,
                scope["method"],
                ascii(scope["path"])[1:-1][:200],
                status,
                seconds,
            )

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS" and header(scope, b"access-control-request-method"):
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        path = scope["path"]
        keys = given_keys(header(scope, b"authorization"), header(scope, b"x-api-key"))
        scope["is_admin"] = self._keys.is_admin(keys)
        if path not in _OPEN and not self._keys.opens(path, keys):
            await self._refuse(send, WrongKey(admin=path.startswith(ADMIN)), {"www-authenticate": "Bearer"})
            return
        length = header(scope, b"content-length") or "0"
        if not length.isdecimal() or int(length) > self._most_body << 20:
            await self._refuse(send, TooLarge(self._most_body), {"connection": "close"})
            return
        if scope["method"] == "POST" and self._running >= self._most_requests:
            await self._refuse(send, TooBusy(self._most_requests), {"retry-after": "1"})
            return
        await self._run(scope, receive, send)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        size, most, begun = 0, self._most_body << 20, False

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > most:
                raise TooLarge(self._most_body)
            return message

        async def watched(message: Message) -> None:
            nonlocal begun
            # whoever reads the body turns our error into an answer of its own: ours is the one to send
            if size <= most:
                begun = True
                await send(message)

        counts = scope["method"] == "POST"
        self._running += counts
        try:
            with contextlib.suppress(TooLarge):
                await self._app(scope, counted, watched)
        except Exception as error:
            # caught here and not outside: so this answer, too, has its id and CORS headers, and the connection stays
            if begun:
                raise
            if size <= most:
                log.exception("%s broke off", scope["request_id"])
                await error_answer(*failure(error))(scope, receive, send)
        finally:
            self._running -= counts
        if size > most:
            await self._refuse(send, TooLarge(self._most_body), {"connection": "close"})

    def _cors(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """What lets a page read the answer: pages of origins that the Guard let through."""
        origin = header(scope, b"origin")
        if origin is None:
            return []
        found = [(b"access-control-allow-origin", origin.encode("latin-1", "replace")), (b"vary", b"Origin")]
        if scope["method"] == "OPTIONS":
            wanted = header(scope, b"access-control-request-headers") or "authorization, content-type"
            found += [
                (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
                (b"access-control-allow-headers", wanted.encode("latin-1", "replace")),
                (b"access-control-max-age", b"600"),
            ]
            if header(scope, b"access-control-request-private-network"):
                found.append((b"access-control-allow-private-network", b"true"))
        else:
            found.append((b"access-control-expose-headers", b"x-request-id"))
        return found

    async def _refuse(self, send: Send, error: Exception, headers: dict[str, str]) -> None:
        status, body = failure(error)
        await refuse(send, status, body["error"]["message"], body["error"]["code"], headers)
