"""Sends a reply as server-sent events. Whatever happens, the body ends cleanly, because some clients would wait
forever.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from fastapi import Response
from starlette.types import Receive, Scope, Send

from loaders.pushed_stream import Loop
from modules.api.byte_stream import ByteStream, watch_disconnect
from modules.api.errors import error_answer, error_body
from modules.generation.completions import Completion, CompletionBatch
from modules.generation.stream import TextPiece
from modules.web.body_writer import BODY_WRITER, BodyWriter
from modules.web.errors import ReaderTooSlow

log = logging.getLogger(__name__)

#: Seconds in which a failing reply still gets its status code; then the headers are sent.
_PATIENCE = 2.0

#: Seconds of silence after which a comment keeps the connection alive.
_PING = 15.0

#: MiB of a reply that may wait for a slow client before the reply is ended.
_BACKLOG = 16


class EventFormat(Protocol):
    """How the events of one response are written. Called from whoever reads the replies."""

    def begin(self, answer: Completion) -> bytes: ...

    def piece(self, answer: Completion, piece: TextPiece) -> bytes: ...

    def end(self, answer: Completion) -> bytes: ...

    def last(self, answers: CompletionBatch) -> bytes: ...


def encode_event(data: object) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


class EventStream(Response):
    """Sends the replies as they are generated. If the client disconnects, they are ended."""

    media_type = "text/event-stream"

    def __init__(self, answers: CompletionBatch, shape: EventFormat, loop: Loop) -> None:
        """`loop` is the one that calls it."""
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._answers = answers
        self._shape = shape
        self._loop = loop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        feed = ByteStream()
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def left() -> None:
            self._answers.cancel()
            feed.end()

        def ping() -> None:
            nonlocal timer
            if time.monotonic() - feed.put_at >= _PING:
                feed.put(b": ping\n\n")
            timer = loop.call_later(_PING, ping)

        timer = loop.call_later(_PING, ping)
        try:
            async with watch_disconnect(receive, left):
                writer = _EventWriter(self._answers, self._shape, feed)
                self._answers.read(writer.end, writer.reader, self._loop)
                data: bytes | None = None
                with contextlib.suppress(asyncio.TimeoutError):
                    data = await asyncio.wait_for(feed.take(), _PATIENCE)
                if feed.refusal:
                    await error_answer(feed.refusal)(scope, receive, send)
                    return
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                with _open_writer(scope) as direct:
                    while data is None or data:
                        if data:
                            await send({"type": "http.response.body", "body": data, "more_body": True})
                        data = await feed.take(direct)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            timer.cancel()
            self._answers.cancel()


def _open_writer(scope: Scope) -> contextlib.AbstractContextManager[BodyWriter | None]:
    """What sends past the event loop, if this response may have it."""
    with contextlib.suppress(OSError):  # no descriptor is left
        opened: Callable[[], BodyWriter] | None = scope.get("extensions", {}).get(BODY_WRITER)
        if opened:
            return opened()
    return contextlib.nullcontext()


class _EventWriter:
    """Writes the replies of one response into its stream."""

    def __init__(self, answers: CompletionBatch, shape: EventFormat, feed: ByteStream) -> None:
        self.shape = shape
        self.feed = feed
        self._answers = answers
        self._lock = threading.Lock()
        self._failed = False

    def fail(self, error: BaseException) -> None:
        """Of several errors, the client is told the first."""
        with self._lock:
            first, self._failed = not self._failed, True
        status, body = error_body(error)
        if status == 500:
            log.error("A streamed reply failed", exc_info=error)
        if first and not self.feed.refuse(error):
            self.feed.put(encode_event(body))

    def end(self) -> None:
        """All replies have ended."""
        if not self._failed:
            self.feed.put(self.shape.last(self._answers))
        if not self.feed.refusal:
            self.feed.put(b"data: [DONE]\n\n")
        self.feed.end()

    def reader(self, answer: Completion) -> _ReplyEvents:
        return _ReplyEvents(answer, self)


class _ReplyEvents:
    """The events of one reply, a PieceReader."""

    def __init__(self, answer: Completion, writer: _EventWriter) -> None:
        self._answer = answer
        self._shape = writer.shape
        self._feed = writer.feed
        self._started = False
        self.fail = writer.fail

    def take(self, pieces: Sequence[TextPiece]) -> None:
        if data := b"".join([self._shape.piece(self._answer, piece) for piece in pieces]):
            self._put(data)
        if self._feed.waiting > _BACKLOG << 20:  # the client may never have read
            raise ReaderTooSlow(_BACKLOG)

    def end(self) -> None:
        if self._started:
            self._put(self._shape.end(self._answer))
        else:
            self._feed.put(self._shape.begin(self._answer) + self._shape.end(self._answer))

    def _put(self, data: bytes) -> None:
        if not self._started:
            self._started = True
            data = self._shape.begin(self._answer) + data
        self._feed.put(data)
