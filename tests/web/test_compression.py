"""What is sent is compressed, and what is streamed arrives event by event."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import brotli  # type: ignore[import-untyped]
import pytest
from starlette.datastructures import Headers
from starlette.types import Message

from modules.web.compression import EventStreamMiddleware, accepted_encoding, compress
from tests.in_thread import in_thread

EVENTS = [b'data: {"number": %d}\n\n' % number for number in range(30)]


@pytest.mark.parametrize(
    ("accepted", "how"), [("gzip, deflate, br", "br"), ("gzip", "gzip"), ("identity", ""), ("", "")]
)
def test_the_better_encoding_is_chosen(accepted: str, how: str) -> None:
    assert accepted_encoding(Headers({"accept-encoding": accepted})) == how


def test_a_compressed_body_is_the_same_body() -> None:
    body = b"".join(EVENTS)
    assert brotli.decompress(compress(body, "br")) == gzip.decompress(compress(body, "gzip")) == body
    assert len(compress(body, "br")) < len(body) / 3


def sent(accepted: str, kind: str, **more: str) -> list[Message]:
    """What the middleware sends of a stream of events in this form, to a browser that accepts these encodings."""
    messages: list[Message] = []
    own = {"content-type": kind, **more}

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        head = [(name.encode(), value.encode()) for name, value in own.items()]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        for event in EVENTS:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def keep(message: Message) -> None:
        messages.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "headers": [(b"accept-encoding", accepted.encode())]}
    in_thread(EventStreamMiddleware(app)(scope, receive, keep))
    return messages


def test_each_event_of_a_stream_can_be_read_as_soon_as_it_is_sent() -> None:
    start, *parts = sent("gzip, br", "text/event-stream; charset=utf-8")
    assert dict(start["headers"])[b"content-encoding"] == b"gzip"
    reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
    assert [reader.decompress(part["body"]) for part in parts[:-1]] == EVENTS
    assert (reader.decompress(parts[-1]["body"]), reader.eof) == (b"", True)
    assert sum(len(part["body"]) for part in parts) < sum(map(len, EVENTS))


@pytest.mark.parametrize(
    ("accepted", "kind", "more"),
    [
        ("identity", "text/event-stream", {}),
        ("gzip", "application/json", {}),
        ("gzip", "text/event-stream", {"content-encoding": "br"}),
    ],
    ids=["not accepted", "no events", "compressed already"],
)
def test_other_answers_stay_as_they_are(accepted: str, kind: str, more: dict[str, str]) -> None:
    start, *parts = sent(accepted, kind, **more)
    assert dict(start["headers"]).get(b"content-encoding", b"").decode() == more.get("content-encoding", "")
    assert b"".join(part["body"] for part in parts) == b"".join(EVENTS)
