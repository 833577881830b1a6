"""Idle connections hold no slot, and a server without descriptors says so once and recovers."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from modules.web.connections import limit_connections, most_connections, quiet_accept_errors

ROOT = Path(__file__).resolve().parents[2]


async def hello(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


@contextlib.contextmanager
def serving(app: Any = hello, **how: Any) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, lifespan="off"))
    limit_connections(server, **how)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 30
    while not server.started and time.monotonic() < end:
        time.sleep(0.01)
    yield port
    server.should_exit = True
    thread.join(10)


def ask(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
        return everything(client)


def everything(client: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65536):
            found += part
    return found


#: What a client may begin with and then leave.
HALVES = (
    b"", b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: x\r\nx-more: ",
    b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET /again HTTP/1.1\r\n",
)  # fmt: skip


@pytest.mark.parametrize("half", HALVES)
def test_half_a_header_is_given_up(half: bytes) -> None:
    with serving(header_seconds=0.2) as port, socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(half)
        said = everything(client)
    if said.startswith(b"HTTP/1.1 200"):  # the next header had begun before the answer: there uvicorn ends the waiting
        return
    assert b"HTTP/1.1 408" in said
    assert json.loads(said.rpartition(b"\r\n\r\n")[2])["error"]["message"].startswith("The connection was closed")


@pytest.mark.parametrize("half", [*HALVES, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx"])
def test_where_all_places_are_taken_the_silent_make_room(half: bytes) -> None:
    with serving(most=8, header_seconds=600) as port, contextlib.ExitStack() as open_:
        for _ in range(40):
            client = open_.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            with contextlib.suppress(ConnectionError):
                client.sendall(half)
        for _ in range(5):
            assert ask(port).endswith(b"hi")


def test_the_most_fits_what_the_system_gives() -> None:
    assert 4 <= most_connections() <= 2000


FLOOD = """
import asyncio, contextlib, logging, resource, socket, sys, threading, time
sys.path.insert(0, ".")
logging.basicConfig()
from tests.web.test_connections import ask, hello, serving
with serving(most=100_000) as port:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    clients = []
    with contextlib.suppress(OSError):
        while True:  # ours and the server's come from the same 64
            clients.append(socket.create_connection(("127.0.0.1", port), timeout=1))
    time.sleep(2.5)
    for each in clients:
        each.close()
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if ask(port).endswith(b"hi"):
                print("recovered")
                break
        time.sleep(0.1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
def test_without_descriptors_it_says_so_once_and_recovers() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FLOOD], check=False, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert "recovered" in done.stdout, done.stderr[-2000:]
    assert done.stderr.count("limit of open files") == 1, done.stderr[-2000:]
    assert len(done.stderr.splitlines()) < 20


def test_other_lines_of_asyncio_stay(caplog: pytest.LogCaptureFixture) -> None:
    quiet_accept_errors()
    with caplog.at_level(logging.ERROR, logger="asyncio"):
        for _ in range(3):
            logging.getLogger("asyncio").error("Task was destroyed but it is pending!")
    assert caplog.text.count("pending") == 3
