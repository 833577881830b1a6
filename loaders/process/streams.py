"""In the model's process: where the tokens of all replies go, and proxies for logits processors on the other side.

One outbox for all messages. A step's tokens are collected and sent as one message by the engine's thread, which saves
a change of threads here and all but one waking there. It must not know what a model is.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from errors import EngineFailed
from loaders.base import Finish, Report, Token
from loaders.cancel import CancelEvent
from loaders.job import Job
from loaders.prefix import common_prefix, has_gone_back
from loaders.process.wire import Channel, ProcessedMessage, ProcessMessage, ReportMessage

_LOOK = 0.005  # seconds between two checks whether everything is sent
_LONGEST = 60.0  # seconds that logits processors may take for a token


class Outbox:
    """Messages to be sent, from any thread, in order."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._items: list[Any] = []
        self._sending = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="sender", daemon=True).start()

    def put(self, *items: Any) -> None:
        """Send these soon, together with everything that arrives meanwhile."""
        with self._changed:
            self._items += items
            self._changed.notify()

    def collect(self, item: Any) -> None:
        """Send this with the next message."""
        with self._changed:
            self._items.append(item)

    def send(self, *items: Any) -> None:
        """Send what was collected and these in this thread; if another one is sending, that one sends them next."""
        with self._changed:
            self._items += items
            if self._sending or not self._items:
                return
            pending, self._items = self._items, []
            self._sending = True
        self._write(pending)

    def flush(self, seconds: float) -> None:
        """Wait until everything put so far is sent, or at most this long."""
        until = time.monotonic() + seconds
        while (self._items or self._sending) and time.monotonic() < until:
            time.sleep(_LOOK)

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._sending or not self._items:
                    self._changed.wait()
                items, self._items = self._items, []
                self._sending = True
            self._write(items)

    def _write(self, items: list[Any]) -> None:
        try:
            self._channel.send(items)
        except OSError:  # the owner is gone
            os._exit(0)
        finally:
            with self._changed:
                self._sending = False
                if self._items:  # otherwise its thread stays asleep: `send` saves waking it for each token
                    self._changed.notify()


class OutboxQueue:
    """Replaces a job's queue (`loaders.job.TokenQueue`): what an engine puts into it is sent, tokens with the next
    message.
    """

    job: Job

    def __init__(self, key: int, outbox: Outbox) -> None:
        self._key = key
        self._outbox = outbox
        self._told = False

    def put(self, item: Token | Finish | BaseException) -> None:
        if not isinstance(item, Token):
            self._outbox.send(ReportMessage(self._key, self._report(), item))
            return
        if not self._told:  # the prompt's statistics are known from the first token on
            self._told = True
            self._outbox.collect(ReportMessage(self._key, self._report()))
        more = tuple([(each.id, each.data, each.logprob) for each in item.alternatives]) if item.alternatives else ()
        self._outbox.collect((self._key, item.id, item.data, item.logprob, more))

    def _report(self) -> Report:
        """A copy, because the engine continues to change its own."""
        report = self.job.report
        return dataclasses.replace(report, warnings=list(report.warnings))

    def get(self) -> Token | Finish | BaseException:
        raise NotImplementedError("its tokens are read in another process")


class RemoteProcessor:
    """All processors of one request as one `loaders.base.LogitsProcessor`. They run on the other side.

    The engine waits for them, and with it all other replies: at most for a minute, or until the request is cancelled.
    """

    def __init__(self, key: int, outbox: Outbox, patience: int | None, known: int, cancel: CancelEvent) -> None:
        """`patience`: if no logits are needed, after how many tokens the next one is requested (-1: never).

        `known`: how many of the ids the other side already has.
        """
        self._key = key
        self._outbox = outbox
        self._needs_logits = patience is None
        self._left = -1 if patience is None else patience
        self._woken = False
        self._answers: SimpleQueue[ProcessedMessage] = SimpleQueue()
        self._known = known
        self._sent: list[int] = []  # the tokens after those
        cancel.listen(lambda: self.answer(ProcessedMessage(key)))  # its next token is not needed any more

    def answer(self, answer: ProcessedMessage) -> None:
        self._answers.put(answer)

    def wake(self) -> None:
        """Request the next token, whatever the patience."""
        self._woken = True

    def __call__(self, ids: Sequence[int], logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if self._needs_logits:
            changed = self._ask(ids, np.ascontiguousarray(logits)).logits
            return logits if changed is None else np.asarray(changed, np.float32)
        if self._left and not self._woken and not has_gone_back(ids, self._known, self._sent):
            self._left -= self._left > 0
            return logits
        self._woken = False  # before the request: a wake-up from now on takes effect at the next token
        answer = self._ask(ids, None)
        self._left = max(answer.patience - 1, -1 if answer.patience < 0 else 0)
        if answer.token is None:
            return logits
        forced = np.full_like(logits, -np.inf)
        forced[answer.token] = 0
        return forced

    def _ask(self, ids: Sequence[int], logits: npt.NDArray[np.float32] | None) -> ProcessedMessage:
        # a reply that has gone back may have other tokens where some were sent before
        same = self._known + common_prefix(self._sent, list(ids[self._known :]))
        self._outbox.send(ProcessMessage(self._key, same, list(ids[same:]), logits))
        self._sent = list(ids[self._known :])
        try:
            return self._answers.get(timeout=_LONGEST)
        except Empty:
            raise EngineFailed(f"a logits processor of an extension took longer than {_LONGEST:.0f} seconds.") from None
