"""A reply as server-sent events. Whatever happens, the body ends cleanly: some clients wait for ever otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from typing import Protocol

from fastapi import Response
from starlette.types import Receive, Scope, Send

from modules.api.failures import answer as error_answer
from modules.api.failures import failure
from modules.api.feed import Feed, watched
from modules.generation.completions import Answer, Answers
from modules.generation.stream import Piece

log = logging.getLogger(__name__)

#: Seconds that a reply has to begin or fail, so that a bad request gets its status code; then the headers go out.
_PATIENCE = 2.0

#: Seconds of silence after which a comment keeps the connection alive.
_PING = 15.0


class Shape(Protocol):
    """How the events of one answer are written. Called from the threads that read the replies."""

    def begin(self, answer: Answer) -> bytes: ...

    def piece(self, answer: Answer, piece: Piece) -> bytes: ...

    def end(self, answer: Answer) -> bytes: ...

    def last(self, answers: Answers) -> bytes: ...


def event(data: object) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


class EventStream(Response):
    """Sends what the replies give, as it comes. A client that goes away ends them."""

    media_type = "text/event-stream"

    def __init__(self, answers: Answers, shape: Shape) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._answers = answers
        self._shape = shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        feed = Feed()
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
            async with watched(receive, left):
                read(self._answers, self._shape, feed)
                data: bytes | None = None
                with contextlib.suppress(asyncio.TimeoutError):
                    data = await asyncio.wait_for(feed.take(), _PATIENCE)
                if feed.refusal:
                    await error_answer(*failure(feed.refusal))(scope, receive, send)
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


def read(answers: Answers, shape: Shape, feed: Feed) -> None:
    """Read all replies, each in a thread of its own, into the feed."""
    lock, left, failed = threading.Lock(), len(answers.answers), False

    def one(answer: Answer) -> None:
        nonlocal left, failed
        started = False
        try:
            answer.prompt_tokens()  # they come first, and the model may take its time to score them
            for piece in answer.stream:
                data = shape.piece(answer, piece)
                if data:
                    feed.put(data if started else shape.begin(answer) + data)
                    started = True
            feed.put(shape.end(answer) if started else shape.begin(answer) + shape.end(answer))
        except BaseException as error:
            with lock:
                first, failed = not failed, True
            status, body = failure(error)
            if status == 500:
                log.exception("A reply broke off")
            answers.cancel()
            if first and not feed.refuse(error):
                feed.put(event(body))
        finally:
            answer.stream.close()
            with lock:
                left -= 1
                last = not left
            if last:
                if not failed:
                    feed.put(shape.last(answers))
                if not feed.refusal:
                    feed.put(b"data: [DONE]\n\n")
                feed.end()

    for answer in answers.answers:
        threading.Thread(target=one, args=(answer,), name="reply", daemon=True).start()
