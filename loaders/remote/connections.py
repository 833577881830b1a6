"""Connections to servers: a pool of them, time-outs, and calls that any thread can end at once.

httpcore, the transport of httpx, because only it shows the connection while a request still waits for its answer: that
is how a server learns that its client has left. It must not know what is sent, or what an answer means.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpcore

_MOST = 4096  # open connections to all servers together
_KEPT = 256  # of them, while nothing is sent
_IDLE = 30.0  # seconds after which such a one is closed: most servers close theirs after a minute or more
_LARGEST = 64 << 20  # bytes of an answer that is not streamed

#: The call that this thread is sending: a connection that writes belongs to it.
_sending = threading.local()


class Call:
    """One request on its way. `abort` may be called from any thread, at any time, any number of times."""

    def __init__(self) -> None:
        self.aborted = False
        self._socket: socket.socket | None = None

    def abort(self) -> None:
        """Close its connection, which ends the request here and there."""
        self.aborted = True
        if (used := self._socket) is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(used, socket.SHUT_RDWR)  # not the method of TLS, which is for its own thread

    def use(self, used: Any) -> None:
        """This is its connection."""
        self._socket = used
        if self.aborted:
            self.abort()

    def leave(self) -> None:
        """It has ended: its connection is free for others."""
        self._socket = None


class AnswerTooLarge(Exception):
    """An answer of more bytes than anything that is asked for."""


@dataclass(frozen=True)
class Answer:
    """A complete answer; the names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class Connections:
    """The pool for one model's servers. `connect` and `read` are time-outs in seconds; `headers` are sent always."""

    def __init__(self, headers: Mapping[str, str], *, connect: float, read: float, ca_file: Path | None = None) -> None:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._times = {"connect": connect, "read": read, "write": read, "pool": read}
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=_MOST,
            max_keepalive_connections=_KEPT,
            keepalive_expiry=_IDLE,
            network_backend=_Backend(),
        )

    def ask(self, method: str, url: str, body: bytes = b"", *, call: Call | None = None, read: float = 0) -> Answer:
        """Send and wait for the complete answer. Raises: httpcore's errors, OSError, AnswerTooLarge."""
        with self.stream(method, url, body, call or Call(), read=read) as response:
            parts, size = [], 0
            for part in response.iter_stream():
                parts.append(part)
                size += len(part)
                if size > _LARGEST:
                    raise AnswerTooLarge
            return Answer(response.status, headers_of(response), b"".join(parts))

    @contextmanager
    def stream(self, method: str, url: str, body: bytes, call: Call, read: float = 0) -> Iterator[httpcore.Response]:
        """The answer as soon as its headers are there. Raises: as `ask`."""
        response = self.open(method, url, body, call, read)
        try:
            yield response
        finally:
            call.leave()
            response.close()

    def open(self, method: str, url: str, body: bytes, call: Call, read: float = 0) -> httpcore.Response:
        """As `stream`, for a caller that closes it. Raises: as `ask`."""
        times = {**self._times, "read": read} if read else self._times
        host = urlsplit(url).netloc.encode()
        headers = [(b"host", host), *self._headers, (b"content-length", str(len(body)).encode())]
        request = httpcore.Request(method, url, headers=headers, content=body, extensions={"timeout": times})
        _sending.call = call
        try:
            return self._pool.handle_request(request)
        finally:
            _sending.call = None

    def close(self) -> None:
        """Close all connections. Calls that still run end with an error."""
        with contextlib.suppress(RuntimeError, OSError):
            self._pool.close()


def headers_of(response: httpcore.Response) -> dict[str, str]:
    """The headers with names in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}


class _Backend(httpcore.NetworkBackend):
    """httpcore's own connections, each of which says which call writes to it."""

    def __init__(self) -> None:
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        options = [*(socket_options or ()), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        return _Stream(self._plain.connect_tcp(host, port, timeout, local_address, options))


class _Stream(httpcore.NetworkStream):
    def __init__(self, plain: httpcore.NetworkStream) -> None:
        self._plain = plain
        self.read = plain.read  # type: ignore[method-assign]  # once per token: no call in between
        self.close = plain.close  # type: ignore[method-assign]
        self.get_extra_info = plain.get_extra_info  # type: ignore[method-assign]

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if call := getattr(_sending, "call", None):
            call.use(self._plain.get_extra_info("socket"))
        self._plain.write(buffer, timeout)

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._plain.start_tls(ssl_context, server_hostname, timeout))
