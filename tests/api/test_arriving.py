"""Streaming in both directions: a body that is too large is refused while it arrives, and the last chunk of a reply is
never lost.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest

from modules.api import event_stream
from modules.api.byte_stream import ByteStream
from modules.api.serve import build_api
from tests.api.conftest import Client
from tests.in_thread import in_thread

CHUNK = 64 * 1024


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/v1/internal/encode"])
def test_a_body_without_a_length_is_read_to_the_limit_and_no_further(start: Callable[..., Client], path: str) -> None:
    """A client that gives no length and never ends must not fill the memory."""
    api = build_api(start("--api-max-body", "1").app)
    read, sent = [0], list[MutableMapping[str, Any]]()

    async def receive() -> MutableMapping[str, Any]:
        read[0] += 1
        assert read[0] < 1000, "it reads on"
        return {"type": "http.request", "body": b"x" * CHUNK, "more_body": True}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 5000),
        "headers": [(b"host", b"127.0.0.1:5000"), (b"content-type", b"application/json")],
    }  # fmt: skip
    in_thread(api(scope, receive, send))
    assert [each["status"] for each in sent if each["type"] == "http.response.start"] == [413]
    assert read[0] <= (1 << 20) // CHUNK + 1


@pytest.mark.parametrize("before", [b"", b"some "])
def test_what_is_put_while_somebody_looks_is_not_lost_by_the_end(before: bytes) -> None:
    """The last chunk and the end arrive right after the coroutine has looked whether there is an end."""

    class Racing(ByteStream):
        @property
        def _ended(self) -> bool:
            seen, self._end_comes = getattr(self, "_end_comes", False), True
            if not seen:
                self.put(b"last")
                self.end()
            return seen

        @_ended.setter
        def _ended(self, value: bool) -> None: ...

    async def told() -> bytes:
        feed = Racing()
        if before:
            feed.put(before)
        feed._wake()
        found = b""
        while data := await feed.take():
            found += data
        return found

    assert in_thread(told(), 10) == before + b"last"


def test_a_client_that_does_not_read_ends_its_reply(
    start: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data waiting for it is limited, and the model is free for others."""
    monkeypatch.setattr(event_stream, "_BACKLOG", 0)  # any waiting data exceeds the limit
    api = build_api(start().app)
    stuck = asyncio.Event()
    sent = b""

    async def receive() -> MutableMapping[str, Any]:
        if not stuck.is_set():
            stuck.set()
            body = json.dumps({"prompt": "x", "max_tokens": 100_000, "stream": True, "ban_eos_token": True})
            return {"type": "http.request", "body": body.encode(), "more_body": False}
        await asyncio.sleep(3600)
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal sent
        sent += message.get("body", b"")
        await asyncio.sleep(0.2)  # more pieces arrive meanwhile

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/v1/completions", "raw_path": b"/v1/completions", "query_string": b"", "root_path": "",
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 5000),
        "headers": [(b"host", b"127.0.0.1:5000"), (b"content-type", b"application/json")],
    }  # fmt: skip
    in_thread(api(scope, receive, send))
    assert b"the client has stopped reading" in sent
    assert sent.endswith(b"data: [DONE]\n\n")
