"""Adds a request id, checks the key and the limits, and logs each API request, before any work is done."""

from __future__ import annotations

import logging
import time
import uuid

from modules.api.errors import error_answer, error_body
from modules.api.keys import ADMIN, ApiKeys, request_keys
from modules.api.reply_limit import ReplyLimit
from modules.api.request_bodies import BodyCollector
from modules.web.errors import BodiesTooLarge, BodyTooSlow, TooBusy, TooLarge, WrongKey
from modules.web.origin_middleware import ASGIApp, Message, Receive, Scope, Send, request_header, send_error
from modules.web.request_bodies import BodyPace, content_length

log = logging.getLogger(__name__)

#: Open without a key: scripts check whether the server is up, people read how to use it.
_OPEN = ("/v1/internal/health", "/health")


class RequestMiddleware:
    """ASGI middleware. `most_body` in MiB. A request takes a slot of `room` once its body has arrived."""

    def __init__(
        self, app: ASGIApp, keys: ApiKeys, most_body: int, room: ReplyLimit, pace: BodyPace | None = None
    ) -> None:
        self._app = app
        self._keys = keys
        self._most_body = most_body
        self._inbox = BodyCollector(most_body << 20, pace)
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].rstrip("/")
        if path:  # a trailing slash is ignored; a client that is redirected may lose its body
            scope = {**scope, "path": path}
        began, status = time.monotonic(), 0
        id = scope["request_id"] = f"req-{uuid.uuid4().hex[:12]}"

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", id.encode())]
            await send(message)

        try:
            await self._pass(scope, receive, answer)
        finally:
            seconds = time.monotonic() - began
            client = (scope.get("client") or ("?",))[0]
            # only the path: a query may contain private data
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
        path = scope["path"]
        keys = request_keys(request_header(scope, b"authorization"), request_header(scope, b"x-api-key"))
        scope["is_admin"] = self._keys.is_admin(keys)
        if path not in _OPEN and not self._keys.opens(path, keys):
            await self._refuse(send, WrongKey(admin=path.startswith(ADMIN)), {"www-authenticate": "Bearer"})
            return
        length = content_length(scope)
        if length is None or length > self._most_body << 20:
            await self._refuse(send, TooLarge(self._most_body), {"connection": "close"})
            return
        try:
            whole = await self._inbox.gather(receive, TooLarge(self._most_body))
        except (TooLarge, BodyTooSlow, BodiesTooLarge) as error:
            # with the rest of a body still arriving, this connection cannot be used again
            await self._refuse(send, error, {"connection": "close"})
            return
        if whole is None:  # the client has disconnected
            return
        if scope["method"] != "POST":
            await self._run(scope, whole, send)
            return
        try:
            with self._room.place() as scope["place"]:
                await self._run(scope, whole, send)
        except TooBusy as error:
            await self._refuse(send, error, {"retry-after": "1"})

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            # caught here and not outside, so that this response also has its id and CORS headers, and the connection
            # stays
            if begun:
                raise
            log.exception("%s failed", scope["request_id"])
            await error_answer(error)(scope, receive, send)

    async def _refuse(self, send: Send, error: Exception, headers: dict[str, str]) -> None:
        status, body = error_body(error)
        await send_error(send, status, body["error"]["message"], body["error"]["code"], headers)
