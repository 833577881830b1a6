"""Limits a server's open connections: idle ones and those with an incomplete header are closed after a while.

Each open connection takes a file descriptor, and a process has few. So each of our servers has a limit well below the
system's; when it is reached, the connection that has been silent for longest is closed. uvicorn, whose protocol this
extends, waits for a header indefinitely. This module must not know what is served.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from errors import UserError
from modules.web.body_writer import BODY_WRITER, BodyWriter
from modules.web.errors import HeaderTooSlow, TooManyConnections

#: Seconds that a client has to send the header of a request.
_HEADER = 30.0

#: Connections of one server if the system allows many descriptors; and descriptors reserved for everything else.
_MOST, _KEPT_FREE = 2000, 64

_NO_DESCRIPTORS = "socket.accept() out of system resource"
_QUIET = 60.0  # seconds between two log lines about the same thing


def most_connections() -> int:
    """How many connections one of the two servers may hold: a third of the descriptors after the reserved ones."""
    try:
        import resource
    except ImportError:  # Windows: memory is the limit there
        return _MOST
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST
    return max(4, min(_MOST, (soft - _KEPT_FREE) // 3))


def limit_connections(server: uvicorn.Server, most: int | None = None, header_seconds: float = _HEADER) -> None:
    """Limit this server's connections from now on; it may be running already."""
    allowed = most_connections() if most is None else most

    class Bounded(LimitedProtocol):
        most = allowed
        header_seconds_ = header_seconds

    if not server.config.loaded:
        server.config.load()
    server.config.http_protocol_class = Bounded
    if server.started:
        for listener in server.servers:
            listener.get_loop().call_soon_threadsafe(_accept_one_by_one, listener)
    else:
        _once_started(server)
    quiet_accept_errors()


def _once_started(server: uvicorn.Server) -> None:
    startup = server.startup

    async def started(*args: Any, **kwargs: Any) -> None:
        await startup(*args, **kwargs)
        for listener in getattr(server, "servers", ()):
            _accept_one_by_one(listener)

    server.startup = started  # type: ignore[method-assign]


def _accept_one_by_one(listener: Any) -> None:
    """Make asyncio accept one connection at a time.

    It tries as often as connections may queue up, even if the system has no descriptor left: each failed attempt then
    logs a line and starts a timer that fails once more after the server has ended.
    """
    parts = ("_backlog", "_serving", "_sockets", "_start_serving")  # there is no public way to it
    if sys.platform == "win32" or not all(hasattr(listener, each) for each in parts):
        return
    queued = listener._backlog
    listener._backlog, listener._serving = 1, False
    listener._start_serving()
    for each in listener._sockets:
        each.listen(queued)


class LimitedProtocol(H11Protocol):
    """uvicorn's protocol with a time limit for the header and a limit on connections. Responses may have a
    BodyWriter.
    """

    most = _MOST
    header_seconds_ = _HEADER

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._silent_since = time.monotonic()
        self._header_timer: asyncio.TimerHandle | None = None
        self._upgraded = False
        application = self.app

        async def with_writer(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and not self.transport.get_extra_info("sslcontext"):
                opened = partial(BodyWriter, self.transport, scope["http_version"])
                scope["extensions"] = {**scope.get("extensions", {}), BODY_WRITER: opened}
            await application(scope, receive, send)

        self.app = with_writer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_header()
        if len(self.connections) > self.most:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        self._silent_since = time.monotonic()
        super().data_received(data)
        if self.awaits_header and not self._upgraded:
            self._expect_header()
        else:
            self._stop_expecting()

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._upgraded = True  # from here on the connection belongs to another protocol
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        self._silent_since = time.monotonic()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_expecting()
        super().connection_lost(exc)

    @property
    def awaits_header(self) -> bool:
        """Whether no request is being processed."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def awaits_client(self) -> bool:
        """Whether the server waits for the client: for a header, or for the rest of a body."""
        return self.awaits_header or (self.cycle.more_body and not self.cycle.response_started)

    def give_up(self, status: bytes, error: UserError) -> None:
        """Send the reason and close the connection."""
        if self.transport.is_closing():
            return
        body = json.dumps({"error": {"message": str(error), "type": "invalid_request_error"}}).encode()
        head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, len(body)) + body)
        self.transport.close()

    def _make_room(self) -> None:
        others = (each for each in self.connections if isinstance(each, LimitedProtocol))
        silent = [each for each in others if each.awaits_client and not each.transport.is_closing()]
        oldest = min(silent, key=lambda each: each._silent_since, default=self)
        oldest.give_up(b"503 Service Unavailable", TooManyConnections(self.most))

    def _expect_header(self) -> None:
        # single bytes do not restart the timer
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self.header_seconds_, self._header_late)

    def _stop_expecting(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _header_late(self) -> None:
        self._header_timer = None
        if self.awaits_header:
            self.give_up(b"408 Request Timeout", HeaderTooSlow(self.header_seconds_))


class _Seldom(logging.Filter):
    """Logs once a minute that no descriptors are left: asyncio would log it thousands of times a second."""

    _said = -_QUIET

    def filter(self, record: logging.LogRecord) -> bool:
        if _NO_DESCRIPTORS not in str(record.msg):
            return True
        now = time.monotonic()
        if now - self._said < _QUIET:
            return False
        self._said = now
        record.msg = (
            "The system's limit of open files is reached, so new connections must wait until others are closed. "
            "Raise the limit with `ulimit -n`."
        )
        record.args, record.exc_info, record.exc_text = (), None, None
        return True


def quiet_accept_errors() -> None:
    """Once per process, because asyncio has one log for all loops."""
    asyncio_log = logging.getLogger("asyncio")
    if not any(isinstance(each, _Seldom) for each in asyncio_log.filters):
        asyncio_log.addFilter(_Seldom())
