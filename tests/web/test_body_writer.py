"""What a thread sends past the event loop arrives once, in order and well framed, whoever else sends and however slowly
it is read.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from modules.api.byte_stream import ByteStream
from modules.web.body_writer import BODY_WRITER, BodyWriter
from tests.api.test_many import until
from tests.web.test_connections import serving


class Streaming:
    """An application whose body is put by another thread. `direct`: how many parts were sent past the loop."""

    def __init__(self, parts: list[bytes], pause: Callable[[int], float] = lambda at: 0.0) -> None:
        self.parts = parts
        self.pause = pause
        self.direct = 0
        self.ended = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        feed = ByteStream()

        def put_all() -> None:
            assert until(lambda: feed._direct is not None)  # the coroutine waits
            for at, part in enumerate(self.parts):
                feed.put(part)
                time.sleep(self.pause(at))
            feed.end()

        await send({"type": "http.response.start", "status": 200, "headers": []})
        with scope["extensions"][BODY_WRITER]() as writer:
            write = writer.write

            def noting(data: bytes) -> bool:
                sent: bool = write(data)
                self.direct += sent
                return sent

            writer.write = noting
            threading.Thread(target=put_all, daemon=True).start()
            while data := await feed.take(writer):
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        self.ended.set()


SMALL = [b"%d " % number for number in range(300)]
LARGE = [bytes([number]) * 300_000 for number in range(40)]


@pytest.mark.parametrize("version", [10, 11])
@pytest.mark.parametrize(
    "parts",
    [SMALL, LARGE, [*SMALL[:20], *LARGE[:5], *SMALL[20:]], [b"a", b"", b"b"]],
    ids=["small", "large", "mixed", "empty"],
)
@pytest.mark.parametrize("slow", [False, True])
def test_the_body_is_what_was_put(version: int, parts: list[bytes], slow: bool) -> None:
    app = Streaming(parts, lambda at: 0.001 if at % 7 == 0 else 0.0)
    with serving(app) as port:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        client._http_vsn, client._http_vsn_str = version, f"HTTP/1.{version - 10}"  # type: ignore[attr-defined]
        for _ in range(2 if version == 11 else 1):  # the connection can be used again
            client.request("GET", "/")
            answer, found = client.getresponse(), b""
            while data := answer.read(200_000 if slow else 1 << 20):
                found += data
                time.sleep(0.01 if slow and len(found) < 2_000_000 else 0)
            assert found == b"".join(parts)
        client.close()
    assert app.direct


def test_a_client_that_leaves_harms_nobody() -> None:
    app = Streaming(LARGE)
    with serving(app) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert client.recv(1000)
        assert app.ended.wait(30)
        app.parts = SMALL
        again = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        again.request("GET", "/")
        assert again.getresponse().read() == b"".join(SMALL)
        again.close()


def test_nothing_is_sent_after_it_is_closed() -> None:
    """Its descriptor may be somebody else's by then."""
    app = Streaming([b"a"])
    kept: list[BodyWriter] = []

    async def keeping(scope: Any, receive: Any, send: Any) -> None:
        opened = scope["extensions"][BODY_WRITER]

        def open_() -> BodyWriter:
            kept.append(opened())
            return kept[0]

        scope["extensions"][BODY_WRITER] = open_
        await app(scope, receive, send)

    with serving(keeping) as port:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        client.request("GET", "/")
        assert client.getresponse().read() == b"a"
        assert kept[0]._socket.fileno() == -1
        assert not kept[0].write(b"late")
        client.close()
