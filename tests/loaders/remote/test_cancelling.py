"""Cancelling at the moments that hardly ever come: while it connects, while its connection goes to another request."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from errors import UserError
from loaders.base import Finish, Request
from loaders.cancel import CancelEvent
from loaders.remote.addresses import Addresses
from tests.loaders.remote.conftest import Open, text_of, wait_until
from tests.loaders.remote.scripted_server import ScriptedServer, encode

PATIENT = {"remote_connect_timeout": 600, "remote_read_timeout": 600}  # whoever waits for these has hung


@contextmanager
def silence(*, full: bool = False) -> Iterator[str]:
    """host:port of a server that accepts connections and says nothing; `full`: or does not even accept them."""
    with socket.create_server(("127.0.0.1", 0), backlog=0 if full else 16) as listening:
        waiting = []
        for _ in range(4 if full else 0):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting[-1].connect(listening.getsockname())
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        for each in waiting:
            each.close()


def read_in_thread(stream: Any) -> tuple[threading.Thread, list[Any]]:
    """Its reader, and what comes of it."""
    found: list[Any] = []

    def read() -> None:
        try:
            found.extend(stream)
        except UserError as error:
            found.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread, found


@pytest.mark.usefixtures("reading")
@pytest.mark.parametrize(
    ("scheme", "trusted", "full"),
    [
        pytest.param("http", True, False, id="waiting for the answer"),
        pytest.param("http", False, False, id="asking for its model"),
        pytest.param("https", True, False, id="in the handshake of TLS"),
        pytest.param("http", True, True, id="connecting"),
        pytest.param("https", False, True, id="connecting to ask for its model"),
    ],
)
def test_a_reader_is_freed_wherever_it_waits(scheme: str, trusted: bool, full: bool, connect: Open) -> None:
    with ScriptedServer() as server, silence(full=full) as place:
        model: Any = connect(server, options=PATIENT)
        addresses = model._server.addresses = Addresses([f"{scheme}://{place}"])
        if trusted:
            addresses.restore(addresses.all()[0])
        stream = model.generate(Request(encode("abc"), cancel=CancelEvent()))
        thread, found = read_in_thread(stream)
        wait_until(lambda: stream._call._socket is not None)
        stream.request.cancel.set()
        thread.join(20)
        assert not thread.is_alive()
        assert found == []
        assert stream.report.finish is Finish.CANCELLED
        wait_until(lambda: not model.queue() and addresses.all()[0].running == 0)
        assert addresses.all()[0].out_until == 0, "it has not failed"


@pytest.mark.usefixtures("reading")
def test_cancelled_at_the_very_moment_in_which_it_begins_to_connect(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that has not begun to connect cannot be shut."""
    with ScriptedServer() as server, silence(full=True) as place:
        model: Any = connect(server, options=PATIENT)
        addresses = model._server.addresses = Addresses([f"http://{place}"])
        addresses.restore(addresses.all()[0])
        cancel, look_up = CancelEvent(), socket.getaddrinfo

        def cancelled(*args: Any, **named: Any) -> Any:
            cancel.set()
            return look_up(*args, **named)

        monkeypatch.setattr(socket, "getaddrinfo", cancelled)
        stream = model.generate(Request(encode("abc"), cancel=cancel))
        thread, found = read_in_thread(stream)
        thread.join(20)
        assert not thread.is_alive()
        assert found == []


@pytest.mark.usefixtures("reading")
def test_one_that_cannot_be_ended_does_not_hold_up_the_others(connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking up a name: formerly, whoever freed the connections of the cancelled waited for it."""
    asked, known = threading.Event(), threading.Event()
    look_up = socket.getaddrinfo

    def slow(host: Any, *args: Any, **named: Any) -> Any:
        if host == "slow.invalid":
            asked.set()
            known.wait(60)
        return look_up(host, *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with ScriptedServer(hold_after=1) as server:
        model: Any = connect(server, options=PATIENT)
        good = model._server.addresses
        other = model.generate(Request(encode("abc"), cancel=CancelEvent()))
        next(other)
        model._server.addresses = Addresses(["http://slow.invalid"])
        model._server.addresses.restore(model._server.addresses.all()[0])
        stuck = model.generate(Request(encode("abc"), cancel=CancelEvent()))
        thread, found = read_in_thread(stuck)
        assert asked.wait(20)
        stuck.request.cancel.set()
        other.request.cancel.set()  # and nobody reads it any more
        assert server.left.wait(20)
        wait_until(lambda: [each.id for each in model.queue()] == [stuck.request.id])
        wait_until(lambda: good.all()[0].running == 0)
        known.set()
        thread.join(20)
        assert not thread.is_alive()
        assert found == []
        wait_until(lambda: not model.queue())


def test_a_late_cancel_does_not_end_the_next_request_on_the_connection(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply ends, and another one gets its connection, between the look at which it is and its end. For readers in
    threads: a loop gets to no other reply meanwhile.
    """
    shutting, go, shut = threading.Event(), threading.Event(), socket.socket.shutdown
    first: list[Any] = []

    def paused(used: socket.socket, how: int) -> None:
        if threading.current_thread() in first:
            shutting.set()
            assert go.wait(60)
        shut(used, how)

    monkeypatch.setattr(socket.socket, "shutdown", paused)
    with ScriptedServer("OpenAI", reply=["a", ""], hold_after=1) as server:
        model: Any = connect(server, options=PATIENT)
        ids = model.tokenizer.encode("abc")
        stream = model.generate(Request(ids, cancel=CancelEvent()))
        assert next(stream).data == b"a"
        thread, found = read_in_thread(stream)
        wait_until(stream._reading.locked)
        first.append(threading.Thread(target=stream.request.cancel.set, daemon=True))
        first[0].start()
        assert shutting.wait(20)
        server.release.set()  # the end of the reply, in one go, so that its connection could be used again
        thread.join(0.3)  # it must wait for the one who shuts
        server.release.clear()
        other = model.generate(Request(ids, cancel=CancelEvent()))
        assert next(other).data == b"a"
        go.set()
        first[0].join(20)
        thread.join(20)
        server.release.set()
        assert b"".join(token.data for token in other) == b""
        assert other.report.finish is Finish.STOP
        assert found == []
        assert text_of(model, Request(ids)) == "a"
