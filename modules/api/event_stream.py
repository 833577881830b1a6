"""Sends a reply as server-sent events. Whatever happens, the body ends cleanly, because some clients would wait
forever.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from typing import Protocol

from fastapi import Response
from starlette.types import Receive, Scope, Send

from modules.api.byte_stream import ByteStream, watch_disconnect
from modules.api.errors import error_body
from modules.api.errors import error_response as error_answer
from modules.generation.completions import Completion, CompletionBatch
from modules.generation.stream import TextPiece
from modules.web.errors import ReaderTooSlow

log = logging.getLogger(__name__)

#: Seconds in which a failing reply still gets its status code; then the headers are sent.
_PATIENCE = 2.0

#: Seconds of silence after which a comment keeps the connection alive.
_PING = 15.0

#: MiB of a reply that may wait for a slow client before the reply is ended.
_BACKLOG = 16


class EventFormat(Protocol):
    """How the events of one response are written. Called from the threads that read the replies."""

    def begin(self, answer: Completion) -> bytes: ...

    def piece(self, answer: Completion, piece: TextPiece) -> bytes: ...

    def end(self, answer: Completion) -> bytes: ...

    def last(self, answers: CompletionBatch) -> bytes: ...


def encode_event(data: object) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


class EventStream(Response):
    """Sends the replies as they are generated. If the client disconnects, they are ended."""

    media_type = "text/event-stream"

    def __init__(self, answers: CompletionBatch, shape: EventFormat) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._answers = answers
        self._shape = shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        feed = ByteStream()
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        timer: asyncio.TimerHandle

        def left() -> None:
            self._answers.cancel()
            feed.end()

        def ping() -> None:
            nonlocal timer
            if loop.time() - sent_at >= _PING:
                feed.put(b": ping\n\n")
            timer = loop.call_later(_PING, ping)

        timer = loop.call_later(_PING, ping)
        try:
            async with watch_disconnect(receive, left):
                read_replies(self._answers, self._shape, feed)
                data: bytes | None = None
                with contextlib.suppress(asyncio.TimeoutError):
                    data = await asyncio.wait_for(feed.take(), _PATIENCE)
                if feed.refusal:
                    await error_answer(*error_body(feed.refusal))(scope, receive, send)
                    return
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                if data is None:
                    data = await feed.take()
                while data:
                    sent_at = loop.time()
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                    data = await feed.take()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            timer.cancel()
            self._answers.cancel()


def read_replies(answers: CompletionBatch, shape: EventFormat, feed: ByteStream) -> None:
    """Read all replies, each in its own thread, into the stream."""
    lock, failed = threading.Lock(), False

    def send(answer: Completion) -> None:
        started = False
        answer.prompt_tokens()  # the prompt's logprobs come first, and scoring may take a while
        for piece in answer.stream:
            data = shape.piece(answer, piece)
            if data:
                feed.put(data if started else shape.begin(answer) + data)
                started = True
            if feed.waiting > _BACKLOG << 20:  # the client may never have read
                raise ReaderTooSlow(_BACKLOG)
        feed.put(shape.end(answer) if started else shape.begin(answer) + shape.end(answer))

    def send_or_fail(answer: Completion) -> None:
        """Of several errors, the client is told the first."""
        nonlocal failed
        try:
            send(answer)
        except BaseException as error:
            with lock:
                first, failed = not failed, True
            status, body = error_body(error)
            if status == 500:
                log.exception("A streamed reply failed")
            if first and not feed.refuse(error):
                feed.put(encode_event(body))
            raise

    def end() -> None:
        if not failed:
            feed.put(shape.last(answers))
        if not feed.refusal:
            feed.put(b"data: [DONE]\n\n")
        feed.end()

    answers.read(end, send_or_fail)
