"""Incomplete bodies and headers do not hold resources forever, and slow connections succeed. No test really waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from modules.api.reply_limit import ReplyLimit
from modules.api.request_bodies import BodyCollector
from modules.web.errors import BodiesTooLarge, BodyTooSlow, TooBusy, TooLarge, TooManyReplies
from modules.web.request_bodies import BodyMiddleware, BodyPace, BodyReceiver, content_length
from tests.in_thread import in_thread

#: Seconds become thousandths.
QUICK = BodyPace(idle=0.05, grace=0.1, rate=1000.0)
PATIENT = BodyPace(idle=30, grace=60, rate=1.0)


def piece(body: bytes = b"x", *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def source(*messages: dict[str, Any], pause: float = 0.0) -> Callable[[], Awaitable[dict[str, Any]]]:
    """What a client sends, one message after the other; then nothing any more."""
    left: Iterator[dict[str, Any]] = iter(messages)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(pause)
        found = next(left, None)
        if found is None:
            await asyncio.Event().wait()
        assert found is not None
        return found

    return receive


def endless(body: bytes, pause: float) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(pause)
        return piece(body)

    return receive


async def read(arriving: BodyReceiver) -> None:
    while (await arriving()).get("more_body"):
        pass


def too_large() -> TooLarge:
    return TooLarge(1)


@pytest.mark.parametrize(
    ("receive", "error"),
    [
        (source, BodyTooSlow),
        (lambda: source(piece()), BodyTooSlow),
        (lambda: source(piece(), piece(b"")), BodyTooSlow),
        (lambda: endless(b"", 0.001), BodyTooSlow),  # pieces without anything in them
        (lambda: endless(b"x", 0.004), BodyTooSlow),  # never idle, and never there
        (lambda: endless(b"x" * 1000, 0.0), TooLarge),
        (lambda: source(piece(b"x" * 10_001, more=False)), TooLarge),
    ],
)
def test_a_body_that_does_not_come_is_given_up(receive: Any, error: type[Exception]) -> None:
    async def run() -> None:
        with pytest.raises(error):
            await read(BodyReceiver(receive(), 10_000, QUICK, too_large))

    in_thread(run())


def test_a_slow_and_steady_one_gets_through() -> None:
    async def run() -> None:
        # 60 pieces with 4 ms between them: far more in all than the grace, but each brings its own time
        pieces = [piece(b"x" * 100)] * 60
        arriving = BodyReceiver(source(*pieces, piece(more=False), pause=0.004), 10_000, QUICK, too_large)
        await read(arriving)
        assert arriving.size == 6001

    in_thread(run())


def test_what_comes_after_the_body_may_take_its_time() -> None:
    async def run() -> None:
        arriving = BodyReceiver(source(piece(more=False)), 10, BodyPace(idle=0.01, grace=0.01), too_large)
        await arriving()
        with pytest.raises(asyncio.TimeoutError):  # our own: a client that stays connected
            await asyncio.wait_for(arriving(), 0.1)

    in_thread(run())


def test_the_time_that_we_take_does_not_count() -> None:
    async def run() -> None:
        arriving = BodyReceiver(source(*[piece()] * 5, piece(more=False)), 100, QUICK, too_large)
        for _ in range(6):
            await arriving()
            await asyncio.sleep(0.06)  # a disk that is slow

    in_thread(run())


def test_large_halves_do_not_keep_a_small_one_out() -> None:
    async def run() -> None:
        inbox = BodyCollector(1000, PATIENT, room=3000)
        two = [piece(b"x" * 900), piece()]
        halves = [asyncio.create_task(inbox.gather(source(*two, pause=0.02), too_large())) for _ in range(10)]
        for _ in range(20):
            whole = await inbox.gather(source(piece(b"y" * 50), piece(b"z", more=False)), too_large())
            assert whole is not None
            assert (await whole())["body"] == b"y" * 50 + b"z"
        assert sum(len(each.body) for each in inbox._arriving.values()) <= 3000
        while not (refused := [each for each in halves if each.done()]):
            await asyncio.sleep(0.01)
        assert all(isinstance(each.exception(), BodiesTooLarge) for each in refused)
        for each in halves:
            each.cancel()
        await asyncio.gather(*halves, return_exceptions=True)
        assert not inbox._arriving

    in_thread(run())


def test_a_client_that_goes_leaves_nothing() -> None:
    async def run() -> None:
        inbox = BodyCollector(1000, PATIENT)
        assert await inbox.gather(source(piece(), {"type": "http.disconnect"}), too_large()) is None
        assert not inbox._arriving

    in_thread(run())


def test_the_room_counts_replies() -> None:
    room = ReplyLimit(4)
    with room.place() as first:
        first.widen(3)
        first.widen(2)  # never fewer
        with room.place() as second:
            with pytest.raises(TooBusy), room.place():
                pass
            with pytest.raises(TooBusy):
                second.widen(2)
            with pytest.raises(TooManyReplies, match="--api-max-requests"):
                second.widen(5)
            assert room.taken == 4
    assert room.taken == 0


@pytest.mark.parametrize(
    ("length", "size"),
    [("12", 12), ("", 0), ("-1", None), ("1e3", None), ("٣", None), ("9" * 30, None), ("x", None), ("+1", None)],
)
def test_the_announced_length(length: str, size: int | None) -> None:
    assert content_length({"headers": [(b"content-length", length.encode("utf-8"))] if length else []}) == size


@pytest.mark.parametrize("swallows", [True, False])
def test_an_application_that_answers_by_itself_does_not_hide_the_reason(swallows: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await read(receive)
        except Exception:
            if not swallows:
                raise
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"no"})

    async def run() -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {"type": "http", "headers": []}
        await BodyMiddleware(app, 1, "--max-upload", QUICK)(scope, source(piece()), send)  # type: ignore[arg-type]
        return sent

    sent = in_thread(run())
    assert [each.get("status") for each in sent] == [408, None]
    assert b"Send it again" in sent[1]["body"]


GONE = {"type": "http.disconnect"}


class Broke(Exception):
    """What an application says of a body that breaks off."""


@pytest.mark.parametrize(
    ("messages", "raises"),
    [
        ([GONE], False), ([piece(), GONE], False), ([piece(), piece(), GONE], False),
        ([piece(more=False)], True), ([piece(), piece(more=False)], True), ([piece(more=False), GONE], True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("begun", [False, True])
def test_a_body_that_breaks_off_is_no_fault_of_ours(messages: list[Any], raises: bool, begun: bool) -> None:
    """The application's own fault, with the whole body there, still comes out."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in messages:
            await receive()
        raise Broke

    async def run() -> None:
        async def send(message: Any) -> None: ...

        await BodyMiddleware(app, 1, "--max-upload", QUICK)({"type": "http", "headers": []}, source(*messages), send)

    if raises:
        with pytest.raises(Broke):
            in_thread(run())
    else:
        in_thread(run())
