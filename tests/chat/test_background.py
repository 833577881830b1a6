"""A reply is written to its end whoever reads it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from typing_extensions import Self

from errors import Unavailable
from modules.chat.background import BackgroundReply
from modules.chat.reply import ReplyUpdate


class Written:
    """A reply whose pieces come when the test lets them."""

    def __init__(self, pieces: int, error: Exception | None = None) -> None:
        self.go_on = threading.Semaphore(0)
        self.closed = threading.Event()
        self._pieces, self._error = pieces, error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()

    def __iter__(self) -> Iterator[ReplyUpdate]:
        for number in range(self._pieces):
            assert self.go_on.acquire(timeout=30)
            yield ReplyUpdate("instruct/1", "m", "a" * (number + 1), number == self._pieces - 1, number)
        if self._error:
            raise self._error


def test_it_goes_on_after_its_reader_has_left() -> None:
    reply = Written(5)
    reader = iter(BackgroundReply(reply))  # type: ignore[arg-type]
    reply.go_on.release()
    assert next(reader).text == "a"
    del reader
    reply.go_on.release(4)
    assert reply.closed.wait(30), "nobody read it, and it stopped"


def test_a_late_reader_gets_the_last_update_and_the_error() -> None:
    reply = Written(3, Unavailable("The disk is full."))
    background = BackgroundReply(reply)  # type: ignore[arg-type]
    reply.go_on.release(3)
    assert reply.closed.wait(30)
    with pytest.raises(Unavailable, match="disk is full"):
        list(background)
    for _ in range(2):  # every reader is told
        reader = iter(background)
        assert next(reader).text == "aaa"
        with pytest.raises(Unavailable):
            next(reader)


def test_several_readers_see_the_same_end() -> None:
    reply = Written(50)
    background = BackgroundReply(reply)  # type: ignore[arg-type]
    ends: list[str] = []

    def read() -> None:
        ends.append([update.text for update in background][-1])

    readers = [threading.Thread(target=read) for _ in range(4)]
    for each in readers:
        each.start()
    reply.go_on.release(50)
    for each in readers:
        each.join(30)
    assert ends == ["a" * 50] * 4
