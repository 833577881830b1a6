"""Replies that an event loop reads: no thread waits for their tokens, and none is left waiting, however they end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import httpcore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import EngineFailed, ModelClosed, UserError
from loaders.base import Finish, Request
from loaders.cancel import CancelEvent
from loaders.remote import stream as remote_stream
from loaders.remote.body import ChunkReader
from modules.api.event_loop import EventLoop
from tests.loaders.remote.conftest import Open, ReadInLoop, ask, wait_until
from tests.loaders.remote.scripted_server import ScriptedServer

OWN = ("sending", "reply")  # threads of one reply


def read_in_loop(model: Any, loop: EventLoop) -> ReadInLoop:
    return ReadInLoop(model.generate(ask(model, cancel=CancelEvent())), loop)


def test_no_thread_waits_once_the_answer_has_begun(connect: Open, event_loop: EventLoop) -> None:
    with ScriptedServer(reply=["a", "b"], hold_after=1) as server:
        model: Any = connect(server)
        streams = [read_in_loop(model, event_loop) for _ in range(8)]
        assert [next(each).data for each in streams] == [b"a"] * 8
        wait_until(lambda: not [each for each in threading.enumerate() if each.name in OWN])
        server.release.set()
        assert [b"".join(token.data for token in each) for each in streams] == [b"b"] * 8
        assert {each.report.finish for each in streams} == {Finish.STOP}


@pytest.mark.parametrize("after", [0, 1])
def test_a_cancelled_reply_leaves_the_server_at_once(after: int, connect: Open, event_loop: EventLoop) -> None:
    with ScriptedServer(reply=["a", "b"], hold_after=after) as server:
        model: Any = connect(server)
        stream = read_in_loop(model, event_loop)
        found = [next(stream).data for _ in range(after)]
        wait_until(lambda: bool(server.bodies))
        stream.request.cancel.set()
        assert server.left.wait(20)
        assert list(stream) == []
        assert (stream.report.finish, found) == (Finish.CANCELLED, [b"a"] * after)
        wait_until(lambda: not model.queue() and model._server.addresses.all()[0].running == 0)


def test_a_model_that_is_closed_ends_its_replies(connect: Open, event_loop: EventLoop) -> None:
    with ScriptedServer(reply=["a", "b"], hold_after=1) as server:
        model: Any = connect(server)
        streams = [read_in_loop(model, event_loop) for _ in range(3)]
        for each in streams:
            next(each)
        model.close()
        for each in streams:
            with pytest.raises(ModelClosed):
                next(each)
        assert server.left.wait(20)


def test_a_server_that_says_nothing_for_too_long(connect: Open, event_loop: EventLoop) -> None:
    with ScriptedServer(reply=["a", "b"], hold_after=1) as server:
        stream = read_in_loop(connect(server, options={"remote_read_timeout": 1}), event_loop)
        assert next(stream).data == b"a"
        with pytest.raises(EngineFailed, match=r"after 1 token \(it said nothing for too long\)"):
            next(stream)


def test_the_connection_is_used_again(connect: Open, event_loop: EventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_stream, "_REST_SECONDS", 1000.0)  # whoever waits for these has hung
    made: list[Any] = []
    create: Callable[..., Any] = socket.socket.connect
    with ScriptedServer() as server:
        model: Any = connect(server)
        monkeypatch.setattr(socket.socket, "connect", lambda *args: [made.append(args), create(*args)][1])
        for _ in range(5):
            assert b"".join(token.data for token in read_in_loop(model, event_loop)) == b"Paris"
        assert made == []


def test_another_address_is_tried_from_the_loop(connect: Open, event_loop: EventLoop) -> None:
    """The first one answers, and fails before its first token."""
    with ScriptedServer(cut_after=0) as bad, ScriptedServer() as good:
        model: Any = connect(bad, good)
        for _ in range(2):
            assert b"".join(token.data for token in read_in_loop(model, event_loop)) == b"Paris"
        assert (len(bad.bodies), len(good.bodies)) == (1, 2)


def test_a_loop_that_cannot_watch_is_not_used(connect: Open, event_loop: EventLoop) -> None:
    event_loop.watches = False
    with ScriptedServer() as server:
        model: Any = connect(server)
        stream: Any = model.generate(Request(model.tokenizer.encode("abc")))
        assert not stream.listen(event_loop, lambda: None)
        assert b"".join(token.data for token in stream) == b"Paris"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.integers(1, 12), st.sampled_from([b"", b"X: 1"]))
@settings(max_examples=200, deadline=None)
def test_chunks_are_the_same_however_they_are_cut(parts: list[bytes], size: int, after: bytes) -> None:
    chunks = [b"%x;name=value\r\n%s\r\n" % (len(each), each) for each in parts]
    sent = b"".join([*chunks, b"000\r\n", after + b"\r\n" if after else b"", b"\r\nrest"])
    reader, found = ChunkReader(), b""
    for at in range(0, len(sent), size):
        if not reader.ended:
            found += reader.push(sent[at : at + size])
            used = at + size
    assert reader.ended
    assert found == b"".join(parts)
    assert b"rest".startswith(reader.rest)
    assert reader.rest + sent[used:] == b"rest"


@pytest.mark.parametrize(
    "sent",
    [b"\r\n", b"xyz\r\n", b"-1\r\n", b"0x5\r\n", b"1 1\r\n", b"f" * 17, b"5\r\nabcdefg\r\n", b"1;" + b"a" * 5000,
     b"0\r\n" + b"a: b\r\n" * 101],
)  # fmt: skip
def test_what_are_no_chunks(sent: bytes) -> None:
    with pytest.raises(httpcore.RemoteProtocolError):
        ChunkReader().push(sent + (b"" if len(sent) > 1000 else b"\r\n"))


def test_what_goes_wrong_is_the_reply_s_error(connect: Open, event_loop: EventLoop) -> None:
    for status in ((429, {"error": {"message": "busy"}}), (401, {}), (500, {})):
        with ScriptedServer(status=status) as server, pytest.raises(UserError):
            next(read_in_loop(connect(server), event_loop))
