"""What every API request passes: an id, its key, the limits, and a line in the log. Before any work is done."""

from __future__ import annotations

import logging
import time
import uuid

from errors import BodiesTooLarge, BodyTooSlow, TooBusy, TooLarge, WrongKey
from modules.api.failures import answer as error_answer
from modules.api.failures import failure
from modules.api.inbox import Inbox
from modules.api.keys import ADMIN, Keys, given_keys
from modules.api.room import Room
from modules.web.bodies import Pace, announced
from modules.web.guard import App, Message, Receive, Scope, Send, header, refuse

log = logging.getLogger(__name__)

#: Open to everyone who gets this far: a script asks whether the server is up, a person reads how to use it.
_OPEN = ("/v1/internal/health", "/health")


class Gate:
    """ASGI middleware. `most_body` in MiB. A request counts in the `room` once its body is there."""

    def __init__(self, app: App, keys: Keys, most_body: int, room: Room, pace: Pace | None = None) -> None:
        self._app = app
        self._keys = keys
        self._most_body = most_body
        self._inbox = Inbox(most_body << 20, pace)
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
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
        path = scope["path"]
        keys = given_keys(header(scope, b"authorization"), header(scope, b"x-api-key"))
        scope["is_admin"] = self._keys.is_admin(keys)
        if path not in _OPEN and not self._keys.opens(path, keys):
            await self._refuse(send, WrongKey(admin=path.startswith(ADMIN)), {"www-authenticate": "Bearer"})
            return
        length = announced(scope)
        if length is None or length > self._most_body << 20:
            await self._refuse(send, TooLarge(self._most_body), {"connection": "close"})
            return
        try:
            whole = await self._inbox.gather(receive, TooLarge(self._most_body))
        except (TooLarge, BodyTooSlow, BodiesTooLarge) as error:
            # with the rest of a body on its way, nothing else can follow on this connection
            await self._refuse(send, error, {"connection": "close"})
            return
        if whole is None:  # the client has gone
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
            # caught here and not outside: so this answer, too, has its id and CORS headers, and the connection stays
            if begun:
                raise
            log.exception("%s broke off", scope["request_id"])
            await error_answer(*failure(error))(scope, receive, send)

    async def _refuse(self, send: Send, error: Exception, headers: dict[str, str]) -> None:
        status, body = failure(error)
        await refuse(send, status, body["error"]["message"], body["error"]["code"], headers)
