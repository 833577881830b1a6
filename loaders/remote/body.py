"""The body of an answer in pieces as they arrive: read by a thread that waits, or without waiting.

The pool (httpcore) reads heads only: its own way costs many times more for each piece, and always waits. At the end it
is told that the body has been read, so that the connection can be used again. It must not know what a body contains.
"""

from __future__ import annotations

import contextlib

import httpcore

from loaders.remote.sockets import Stream

_READ = 1 << 16  # bytes at once
_LONGEST_LINE = 1 << 12  # bytes of a chunk's size, or of a field after the last chunk
_MOST_LINES = 100  # fields after the last chunk
_END = b"0\r\n\r\n"


class ChunkReader:
    """Takes the chunks of `Transfer-Encoding: chunked` apart. Feed it with `push`. `ended`: it has come to its end;
    `rest`: what follows that.
    """

    def __init__(self) -> None:
        self.ended = False
        self.rest = b""
        self._left = 0  # bytes of the current chunk
        self._expects = "size"  # or data, end of data, fields
        self._lines = 0

    def push(self, data: bytes) -> bytes:
        """What is in it. Raises: httpcore.RemoteProtocolError."""
        found: list[bytes] = []
        data, at = self.rest + data, 0
        while not self.ended:
            if self._expects == "data":
                piece = data[at : at + self._left]
                found.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
                self._expects = "end of data"
            end = data.find(b"\n", at)
            if end < 0:
                if len(data) - at > _LONGEST_LINE:
                    raise httpcore.RemoteProtocolError("its chunks have lines that do not end")
                break
            line, at = data[at:end].rstrip(b"\r"), end + 1
            self._take(line)
        self.rest = data[at:]
        return found[0] if len(found) == 1 else b"".join(found)

    def _take(self, line: bytes) -> None:
        """A line between the data."""
        if self._expects == "end of data":
            if line:
                raise httpcore.RemoteProtocolError("a chunk is longer than its size")
            self._expects = "size"
        elif self._expects == "size":
            self._left = _size(line)
            self._expects = "data" if self._left else "fields"
        else:
            self._lines += 1
            self.ended = not line
            if self._lines > _MOST_LINES:
                raise httpcore.RemoteProtocolError("too much follows its last chunk")


def _size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not digits or len(digits) > 16 or digits.strip(b"0123456789abcdefABCDEF"):
        raise httpcore.RemoteProtocolError("the size of a chunk is no number")
    return int(digits, 16)


class Body:
    """One answer's body. Read by one thread at a time. `whole`: it says itself where it ends; `ended`: it has been
    read.
    """

    def __init__(self, response: httpcore.Response, timeout: float) -> None:
        """`timeout`: seconds without a byte after which `read` gives up."""
        self.stream: Stream = response.extensions["network_stream"]
        self.timeout = timeout
        self._response = response
        headers = {name.lower(): value for name, value in response.headers}
        self._chunks = ChunkReader() if b"transfer-encoding" in headers else None  # the pool knows no other one
        length = headers.get(b"content-length")
        self._left = int(length) if length is not None and not self._chunks else None
        self.whole = self._chunks is not None or self._left is not None
        self.ended = self._left == 0

    def read(self) -> bytes:
        """The next piece, as soon as there is one; empty at the end. Raises: httpcore's errors."""
        while not self.ended:
            if piece := self._take(self.stream.read(_READ, self.timeout)):
                return piece
        return b""

    def read_now(self) -> bytes | None:
        """As `read`; None if nothing has arrived."""
        while not self.ended:
            if (data := self.stream.read_now(_READ)) is None:
                return None
            if piece := self._take(data):
                return piece
        return b""

    def _take(self, data: bytes) -> bytes:
        if not data:
            if self._chunks or self._left:
                raise httpcore.RemoteProtocolError("it ended before its answer did")
            self.ended = True
        elif self._chunks:
            data = self._chunks.push(data)
            self.ended = self._chunks.ended
        elif self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
            self.ended = not self._left
        return data

    def close(self) -> None:
        """Free the connection for other requests if it has been read to its end; otherwise, end it."""
        try:
            if self._chunks and self._chunks.ended and not self._chunks.rest:
                self.stream.put_back(_END)  # the pool has seen the head only
                with contextlib.suppress(httpcore.ProtocolError):
                    for _ in self._response.iter_stream():
                        pass
        finally:
            self._response.close()
