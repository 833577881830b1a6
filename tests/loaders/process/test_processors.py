"""A logits processor that fails or never answers does not affect other replies, and its own can be cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from errors import EngineDied, EngineFailed
from loaders.base import Request
from loaders.cancel import CancelEvent
from loaders.process import streams
from loaders.process.remote_job import RemoteJob, RemoteProcessors
from loaders.process.streams import Outbox, RemoteProcessor
from loaders.process.wire import ProcessedMessage, ProcessMessage


class Forcer:
    """Forces token 7; raises the given error when it is notified of a token, or asked for one."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.wake: Callable[[], None] = lambda: None

    def read(self, ids: Sequence[int]) -> None:
        if self.error and len(ids) > 1:
            raise self.error

    def forced(self, ids: Sequence[int]) -> int | None:
        if self.error:
            raise self.error
        return 7

    def patience(self) -> int:
        return 0

    def __call__(self, ids: Sequence[int], logits: Any) -> Any:
        return logits


class Hanging:
    """Never answers."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def __call__(self, ids: Sequence[int], logits: Any) -> Any:
        self.asked.set()
        threading.Event().wait()


def test_one_that_never_answers_holds_up_nobody() -> None:
    sent: SimpleQueue[Any] = SimpleQueue()
    processors, hanging = RemoteProcessors(sent.put), Hanging()
    processors.begin(1, RemoteJob(Request([1], processors=[hanging])))
    processors.begin(2, RemoteJob(Request([1], processors=[Forcer()])))
    processors.ask(ProcessMessage(1, 1, [], np.zeros(3, np.float32)))
    assert hanging.asked.wait(10)
    processors.ask(ProcessMessage(2, 1, [5]))
    assert sent.get(timeout=10).token == 7
    processors.close()
    processors.ask(ProcessMessage(2, 1, [5]))
    assert sent.get(timeout=10).token is None


class Silent(Outbox):
    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, *items: Any) -> None:
        self.sent += items


@pytest.mark.parametrize("patience", [None, 0])
def test_the_engine_stops_waiting_if_the_request_is_cancelled(patience: int | None) -> None:
    cancel, found, logits = CancelEvent(), [], np.arange(3, dtype=np.float32)
    processor = RemoteProcessor(1, Silent(), patience, 1, cancel)
    asking = threading.Thread(target=lambda: found.append(processor([1], logits)), daemon=True)
    asking.start()
    cancel.set()
    asking.join(10)
    assert [each.tolist() for each in found] == [[0, 1, 2]]


@pytest.mark.parametrize("patience", [None, 0])
def test_the_engine_does_not_wait_for_ever(patience: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_LONGEST", 0.01)
    processor = RemoteProcessor(1, Silent(), patience, 1, CancelEvent())
    with pytest.raises(EngineFailed, match="a logits processor of an extension took longer"):
        processor([1], np.zeros(3, np.float32))


@pytest.mark.parametrize("error", [EngineDied("a test"), ValueError("a test")])
def test_one_that_fails_holds_up_nobody(error: BaseException) -> None:
    sent: SimpleQueue[Any] = SimpleQueue()
    processors = RemoteProcessors(sent.put)
    processors.begin(1, RemoteJob(Request([1], processors=[Forcer(error)])))
    processors.begin(2, RemoteJob(Request([1], processors=[Forcer()])))
    processors.received(1, 5)
    for key in (1, 2):
        processors.ask(ProcessMessage(key, 1, [5]))
    answers: list[ProcessedMessage] = [sent.get(timeout=10) for _ in range(2)]
    assert {each.key: each.token for each in answers} == {1: None, 2: 7}
    processors.close()


def test_logits_that_cannot_be_changed_stay_as_they_are() -> None:
    def broken(ids: Sequence[int], logits: Any) -> Any:
        raise ValueError("a test")

    sent: SimpleQueue[Any] = SimpleQueue()
    processors = RemoteProcessors(sent.put)
    assert processors.begin(1, RemoteJob(Request([1], processors=[broken]))) == ("logits", -1)
    processors.ask(ProcessMessage(1, 1, [], np.zeros(3, np.float32)))
    assert sent.get(timeout=10).logits is None
    processors.close()
