"""Connections to servers: a pool of them, with time-outs and bounds for what arrives.

httpcore, the transport of httpx, because only it shows the connection while a request still waits for its answer: that
is how a server learns that its client has left. It must not know what is sent, or what an answer means.
"""

from __future__ import annotations

import contextlib
import math
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpcore

from errors import InvalidInput
from loaders.remote.body import Body
from loaders.remote.sockets import Backend, Call, sending

#: What a broken connection raises.
BROKEN = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError)

_MOST = 4096  # open connections to all servers together
_KEPT = 256  # of them, while nothing is sent
_IDLE = 30.0  # seconds after which such a one is closed: most servers close theirs after a minute or more
_LARGEST = 64 << 20  # bytes of an answer that is not streamed
_BODY = 60.0  # seconds from its headers to its end


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
        """Raises: InvalidInput, if `ca_file` has no certificates."""
        try:
            context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        except OSError:
            raise InvalidInput(f"ca_file: {ca_file} cannot be read as certificates in PEM format.") from None
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._times = {"connect": connect, "read": read, "write": read, "pool": read}
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=_MOST,
            max_keepalive_connections=_KEPT,
            keepalive_expiry=_IDLE,
            network_backend=Backend(),
        )

    def ask(self, method: str, url: str, body: bytes = b"", *, call: Call | None = None, read: float = 0) -> Answer:
        """Send and wait for the complete answer. Raises: httpcore's errors, OSError, AnswerTooLarge."""
        call = call or Call()
        with self.stream(method, url, body, call, read=read) as response:
            call.end_within(_BODY)
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
        """As `stream`, for a caller that closes it. `read`: seconds for the headers. Raises: as `ask`."""
        times = {**self._times, "read": read} if read else self._times
        host = urlsplit(url).netloc.encode()
        headers = [(b"host", host), *self._headers, (b"content-length", str(len(body)).encode())]
        request = httpcore.Request(method, url, headers=headers, content=body, extensions={"timeout": times})
        call.end_within(sum(self._times.values()) + _BODY)  # headers that arrive byte by byte are never silent
        with sending(call):
            response = self._pool.handle_request(request)
        call.until = math.inf
        response.extensions["network_stream"].head = False
        return response

    def body(self, response: httpcore.Response) -> Body:
        """The body of an answer that has been opened; it is closed instead of the answer."""
        return Body(response, self._times["read"])

    def close(self) -> None:
        """Close all connections. Calls that still run end with an error."""
        with contextlib.suppress(RuntimeError, OSError):
            self._pool.close()


def headers_of(response: httpcore.Response) -> dict[str, str]:
    """The headers with names in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}


def describe_break(error: BaseException) -> str:
    """Why a connection broke, as a clause."""
    if isinstance(error, httpcore.ConnectTimeout):
        return "nothing answers there"
    if isinstance(error, httpcore.TimeoutException):
        return "it said nothing for too long"
    said = str(error).strip()
    if "refused" in said:
        return "it refuses connections"
    if "CERTIFICATE" in said.upper():
        return "its certificate is not trusted; name its authority's with ca_file"
    if "WRONG_VERSION" in said or "RECORD_LAYER" in said.upper().replace(" ", "_"):
        return "it does not speak TLS (perhaps its address begins with http://)"
    if "reset by" in said or "Broken pipe" in said:
        return "it ended the connection"
    if isinstance(error, httpcore.ProtocolError):
        ended = any(word in said for word in ("disconnect", "closed", "ended"))
        return "it ended the connection" if ended else "it does not speak HTTP"
    return " ".join(said.split())[:120] or "the connection broke"
