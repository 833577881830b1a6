"""An error that a part of a request keeps does not hold the request: its lease ends with it, not at a collection."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from errors import BadFile, EngineFailed, InvalidInput, without_frames
from loaders.base import Request
from loaders.job import Job
from modules.chat.background import BackgroundReply


class Held:
    """As a lease: something that a request holds."""


@pytest.fixture
def counted() -> Iterator[None]:
    """Only reference counts free anything."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def job_that_fails(held: Held) -> None:
    job = Job(Request([1]))
    job.held = held  # type: ignore[attr-defined]
    job.put(EngineFailed("it is a test."))
    for _ in range(2):
        with pytest.raises(EngineFailed, match="it is a test"):
            next(job)


class FailingReply:
    def __init__(self, held: Held) -> None:
        self.held = held

    def __enter__(self) -> FailingReply:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[Any]:
        raise InvalidInput("it is a test")


def reply_that_fails(held: Held) -> None:
    reply: Any = FailingReply(held)
    following = BackgroundReply(reply)
    for _ in range(2):
        with pytest.raises(InvalidInput, match="it is a test"):
            list(following)


@pytest.mark.parametrize("fail", [job_that_fails, reply_that_fails])
@pytest.mark.usefixtures("counted")
def test_what_failed_is_gone_at_once(fail: Callable[[Held], None]) -> None:
    held = Held()
    gone = weakref.ref(held)
    fail(held)
    del held
    assert gone() is None


@pytest.mark.parametrize(
    "error",
    [
        BadFile("a.json", "it is damaged"), EngineFailed("it is a test."), KeyError("x"), OSError(2, "No such file"),
        ValueError(), KeyboardInterrupt(),
    ],
)  # fmt: skip
def test_the_copy_says_the_same(error: BaseException) -> None:
    try:
        raise error
    except BaseException as caught:
        copy = without_frames(caught)
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.__dict__ == error.__dict__
    assert copy.__traceback__ is None
