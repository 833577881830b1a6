"""A logits processor that fails does not end its thread, and does not affect other replies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from errors import EngineDied
from loaders.base import Request
from loaders.process.remote_job import RemoteJob, RemoteProcessors
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
    assert [(each.key, each.token) for each in answers] == [(1, None), (2, 7)]
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
