"""The sockets under the pool of connections: any thread can end what another one does with them, at any moment.

That covers connecting, the handshake of TLS, and waiting for an answer; only looking up a name cannot be ended. The
pool (httpcore) has its connections made here. It must not know what is sent, or what an answer means.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import select
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore

#: The end of a head, which the pool takes with either kind of line end.
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_LOOK = 0.25  # seconds between two looks at whether a call has ended, where the system does not wake who connects


class CallEnded(OSError):
    """Somebody has ended it."""


class Call:
    """One request on its way. `abort` may be called from any thread, at any time, any number of times."""

    def __init__(self) -> None:
        self.aborted = False
        #: When what is read must have arrived, by time.monotonic().
        self.until = math.inf
        self._socket: socket.socket | None = None
        # without it, `abort` might shut a socket that another call has got meanwhile. Reentrant, because the garbage
        # collector may abort a call in the middle of anything
        self._lock = threading.RLock()

    def abort(self) -> None:
        """End its connection, which ends the request here and there."""
        with self._lock:
            self.aborted = True
            if (used := self._socket) is not None:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(used, socket.SHUT_RDWR)  # not the method of TLS, which is for its own thread

    def use(self, used: socket.socket) -> None:
        """This is its connection. Raises: CallEnded."""
        with self._lock:
            if self.aborted:
                raise CallEnded("it was cancelled")
            self._socket = used

    def leave(self, used: socket.socket | None = None) -> None:
        """Its connection, or this one if it is its, is free for others, or closed."""
        with self._lock:
            if used is None or used is self._socket:
                self._socket = None

    def end_within(self, seconds: float) -> None:
        """All that is still read must arrive in this time; a time-out otherwise."""
        self.until = time.monotonic() + seconds


#: The call that this thread is sending: what it connects and writes to belongs to that.
_sending = threading.local()


@contextmanager
def sending(call: Call) -> Iterator[None]:
    """Within it, this thread sends this call."""
    _sending.call = call
    try:
        yield
    finally:
        _sending.call = None


def _sent() -> Call:
    call: Call | None = getattr(_sending, "call", None)
    return call or Call()


class Backend(httpcore.NetworkBackend):
    """Makes connections for httpcore."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Raises: httpcore.ConnectError, httpcore.ConnectTimeout, CallEnded."""
        del local_address, socket_options
        call = _sent()
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise httpcore.ConnectError("its name is not known here") from None
        failure: OSError | None = None
        for family, kind, protocol, _, address in found:
            made = None
            try:
                made = socket.socket(family, kind, protocol)
                _connect(made, address, timeout, call)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return Stream(made, call)
            except BaseException as error:
                if made:
                    call.leave(made)
                    made.close()
                if call.aborted:
                    raise CallEnded("it was cancelled") from None
                if not isinstance(error, OSError):
                    raise
                failure = failure or error
        if isinstance(failure, TimeoutError):
            raise httpcore.ConnectTimeout(str(failure))
        raise httpcore.ConnectError(str(failure))


def _connect(made: socket.socket, address: Any, timeout: float | None, call: Call) -> None:
    """Raises: OSError."""
    made.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        made.connect(address)
    call.use(made)  # now, as a socket that has not begun to connect cannot be shut
    end = math.inf if timeout is None else time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        selector.register(made, selectors.EVENT_WRITE)
        while not selector.select(max(min(_LOOK, end - time.monotonic()), 0)):
            if call.aborted:
                raise CallEnded("it was cancelled")
            if time.monotonic() >= end:
                raise TimeoutError("timed out")
    if code := made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        of_windows: dict[int, str] = getattr(socket, "errorTab", {})  # os.strerror does not know these
        raise OSError(code, of_windows.get(code) or os.strerror(code))
    made.getpeername()  # raises if it was shut while it connected


class Stream(httpcore.NetworkStream):
    """A connection. It knows which call uses it. The pool gets the head of an answer by itself, without what follows
    it, until `head` is unset.
    """

    def __init__(self, used: socket.socket, call: Call) -> None:
        self.socket, self._call = used, call
        self.head = True
        self._seen = b""  # the last bytes of the head so far
        self._kept = b""  # what has arrived and not been read
        self.more = False  # whether more has arrived than was read last, of which the system may not tell
        self._closing = threading.Lock()
        self._held = self._closed = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data, self._kept = self._kept, b""
        if not data:
            data = self._receive(max_bytes, timeout)
        if self.head:
            seen = self._seen + data
            if end := _END_OF_HEAD.search(seen):
                cut = end.end() - len(self._seen)
                data, self._kept, self._seen = data[:cut], data[cut:], b""
            else:
                self._seen = seen[-2:]
        return data

    def read_now(self, max_bytes: int) -> bytes | None:
        """What has arrived; None if nothing has. Raises: httpcore.ReadError."""
        data, self._kept = self._kept, b""
        try:
            if not data:
                if self.socket.gettimeout() != 0:
                    self.socket.settimeout(0)
                data = self.socket.recv(max_bytes)
            pending = getattr(self.socket, "pending", None)  # what TLS has decrypted
            self.more = len(data) >= max_bytes or bool(pending and pending())
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self.more = False
            return None
        except (OSError, ValueError) as error:  # the second from TLS whose socket has been closed
            raise httpcore.ReadError(str(error)) from None
        return data

    def hold(self) -> int:
        """Its descriptor, which belongs to it until `let_go`, even if it is closed meanwhile. Raises: OSError."""
        with self._closing:
            self._held = True
            if (number := self.socket.fileno()) < 0:
                raise CallEnded("it was closed")
            return number

    def let_go(self) -> None:
        """End of `hold`."""
        with self._closing:
            self._held = False
            if self._closed:
                self.socket.close()

    def put_back(self, data: bytes) -> None:
        """This is read next."""
        self._kept = data + self._kept

    def _receive(self, max_bytes: int, timeout: float | None) -> bytes:
        try:
            if (until := self._call.until) < math.inf:
                left = until - time.monotonic()
                if left <= 0:
                    raise TimeoutError("timed out")
                timeout = left if timeout is None else min(timeout, left)
            self.socket.settimeout(timeout)
            return self.socket.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from None
        except OSError as error:
            raise httpcore.ReadError(str(error)) from None

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._call = _sent()
        self._call.use(self.socket)
        self.head, self._seen = True, b""
        try:
            self.socket.settimeout(timeout)
            self.socket.sendall(buffer)
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from None
        except OSError as error:
            raise httpcore.WriteError(str(error)) from None

    def close(self) -> None:
        self._call.leave(self.socket)  # first: its number may be that of another one as soon as it is closed
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)  # whoever reads it in another thread wakes up
        with self._closing:
            self._closed = True
            if not self._held:
                self.socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Raises: httpcore.ConnectError, httpcore.ConnectTimeout, CallEnded."""
        call = self._call
        own = self.socket.dup()  # this one is taken over by TLS, so another handle to the connection ends it
        try:
            call.use(own)
            self.socket.settimeout(timeout)
            return Stream(ssl_context.wrap_socket(self.socket, server_hostname=server_hostname), call)
        except BaseException as error:
            self.socket.close()
            if isinstance(error, CallEnded) or call.aborted:
                raise CallEnded("it was cancelled") from None
            if isinstance(error, TimeoutError):
                raise httpcore.ConnectTimeout(str(error)) from None
            if isinstance(error, (OSError, ValueError)):
                raise httpcore.ConnectError(str(error)) from None
            raise
        finally:
            call.leave(own)
            own.close()

    def get_extra_info(self, info: str) -> Any:
        return (bool(self._kept) or _readable(self.socket)) if info == "is_readable" else None


def _readable(used: socket.socket) -> bool:
    """Whether it has something to read, as one has whose other side has closed it."""
    if used.fileno() < 0:
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(used, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([used], [], [], 0)[0])
