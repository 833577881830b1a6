"""The connections of a server: a client that opens one and sends nothing, or half a header, holds it only for a while.

Each open connection takes a file descriptor, and a process has few. So a server of ours has a most, well below what the
system gives; where it is reached, the one that has been silent for longest makes room. uvicorn, whose protocol this is,
waits for a header for ever. This module must not know what is served.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from errors import HeaderTooSlow, TooManyConnections, UserError

#: Seconds that a client has to send the header of a request.
_HEADER = 30.0

#: Connections of one server, where the system gives many descriptors; and descriptors that are left to all else.
_MOST, _KEPT_FREE = 2000, 64

_NO_DESCRIPTORS = "socket.accept() out of system resource"
_QUIET = 60.0  # seconds between two log lines about the same


def most_connections() -> int:
    """How many connections one of the two servers may hold: a third of the descriptors, after some for all else."""
    try:
        import resource
    except ImportError:  # Windows: there the limit is the memory
        return _MOST
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST
    return max(4, min(_MOST, (soft - _KEPT_FREE) // 3))


def watch_over(server: uvicorn.Server, most: int | None = None, header_seconds: float = _HEADER) -> None:
    """Let the connections of this server be patient ones, from now on; it may be running already."""
    allowed = most_connections() if most is None else most

    class Bounded(Patient):
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
    """Let asyncio take one connection at a time.

    It tries as many times as connections may queue up, also where the system has no descriptor left: then each try is a
    log line, and a timer that begins anew, which fails once more when the server has ended.
    """
    parts = ("_backlog", "_serving", "_sockets", "_start_serving")  # nothing public leads there
    if sys.platform == "win32" or not all(hasattr(listener, each) for each in parts):
        return
    queued = listener._backlog
    listener._backlog, listener._serving = 1, False
    listener._start_serving()
    for each in listener._sockets:
        each.listen(queued)


class Patient(H11Protocol):
    """uvicorn's protocol with an end to waiting for a header, and a most of connections."""

    most = _MOST
    header_seconds_ = _HEADER

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._silent_since = time.monotonic()
        self._header_timer: asyncio.TimerHandle | None = None
        self._upgraded = False

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
        self._upgraded = True  # the connection is another protocol's from here on
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        self._silent_since = time.monotonic()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_expecting()
        super().connection_lost(exc)

    @property
    def awaits_header(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def awaits_client(self) -> bool:
        """Whether it is the client's turn: with a header, or with the rest of a body."""
        return self.awaits_header or (self.cycle.more_body and not self.cycle.response_started)

    def give_up(self, status: bytes, error: UserError) -> None:
        """Say why and close the connection."""
        if self.transport.is_closing():
            return
        body = json.dumps({"error": {"message": str(error), "type": "invalid_request_error"}}).encode()
        head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, len(body)) + body)
        self.transport.close()

    def _make_room(self) -> None:
        others = (each for each in self.connections if isinstance(each, Patient))
        silent = [each for each in others if each.awaits_client and not each.transport.is_closing()]
        oldest = min(silent, key=lambda each: each._silent_since, default=self)
        oldest.give_up(b"503 Service Unavailable", TooManyConnections(self.most))

    def _expect_header(self) -> None:
        # bytes that come one by one do not begin the time anew
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
    """Lets asyncio say once a minute that no descriptors are left: it would say so thousands of times a second."""

    _said = -_QUIET

    def filter(self, record: logging.LogRecord) -> bool:
        if _NO_DESCRIPTORS not in str(record.msg):
            return True
        now = time.monotonic()
        if now - self._said < _QUIET:
            return False
        self._said = now
        record.msg = (
            "The system gives no more file descriptors, so no new connections can be taken until some are closed. "
            "`ulimit -n` raises the limit."
        )
        record.args, record.exc_info, record.exc_text = (), None, None
        return True


def quiet_accept_errors() -> None:
    """Once for the process, since asyncio has one log for all loops."""
    asyncio_log = logging.getLogger("asyncio")
    if not any(isinstance(each, _Seldom) for each in asyncio_log.filters):
        asyncio_log.addFilter(_Seldom())
