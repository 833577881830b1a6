"""A reply that another process writes, for its reader here; and the logits processors of requests, which run here.

It must not know how anything is sent.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np

from errors import UserError
from loaders.base import Alternative, Finish, Report, Request, Token, TokenForcer
from loaders.job import Job
from loaders.process.wire import ProcessedMessage, ProcessMessage, WakeMessage, WireToken
from loaders.pushed_stream import Loop

log = logging.getLogger(__name__)

_FIELDS = tuple(each.name for each in dataclasses.fields(Report))


class RemoteJob(Job):
    """Filled by the thread that reads from the model's process, read by whoever requested it. A PushedStream."""

    def __init__(self, request: Request) -> None:
        self._arrived: SimpleQueue[Token | Finish | BaseException] = SimpleQueue()
        super().__init__(request, self._arrived)
        self.follows_tokens = False  # whether a processor of the request needs each token
        self.wake: Callable[[], None] = _nobody  # whoever reads it

    @property
    def waiting(self) -> bool:
        return not self._arrived.empty()

    def listen(self, loop: Loop | None, wake: Callable[[], None]) -> bool:  # noqa: ARG002
        self.wake = wake  # by the thread that brings the tokens: a loop's turn costs more than what is done then
        wake()  # for what arrived before
        return True

    def receive(self, token: WireToken) -> None:
        """The next token; its reader is to be woken once everything that arrived with it is here."""
        _, id, data, logprob, alternatives = token
        now = time.monotonic()
        self.first_token = self.first_token or now
        self.report.decode_seconds = now - self.first_token
        self.report.new_tokens += 1
        others = tuple([Alternative(*each) for each in alternatives]) if alternatives else ()
        self._arrived.put(Token(id, data, logprob, others))

    def update(self, report: Report) -> None:
        """The process's report of the reply; `report` stays the same object."""
        for name in _FIELDS:
            setattr(self.report, name, getattr(report, name))

    def finish(self, why: Finish | BaseException) -> None:
        """As `end`; the report is complete already."""
        if not self.ended:
            self.ended = True
            self._arrived.put(why)
            self.wake()


def _nobody() -> None:
    """Its reader waits for it by itself."""


class _ReplyProcessors:
    """The processors of one reply, and the tokens that they know. `asked`: what the process wants, and the tokens that
    the reply's reader gets; None at the end.
    """

    def __init__(self, request: Request) -> None:
        self.asked: SimpleQueue[ProcessMessage | int | None] = SimpleQueue()
        self.processors = request.processors
        self.forcer = request.processors[0] if len(request.processors) == 1 else None
        self.ids = list(request.ids)
        self._received = len(self.ids)  # tokens of `ids` that the reply's reader has

    def read(self, token: int) -> None:
        """The next token, for a processor that follows them."""
        if isinstance(self.forcer, TokenForcer):
            # a request for an answer may have contained it, and tokens after it that were held back
            if self.ids[self._received : self._received + 1] != [token]:
                self.ids[self._received :] = [token]
            self._received += 1
            self.forcer.read(self.ids)


class RemoteProcessors:
    """Runs the processors of all replies of one model's process: each reply's in a thread of its own, so that one that
    takes long, or never returns, does not delay the others.
    """

    def __init__(self, send: Callable[[Any], None]) -> None:
        self._send = send
        self._replies: dict[int, _ReplyProcessors] = {}

    def begin(self, key: int, job: RemoteJob) -> tuple[str, int]:
        """Kind and patience, as GenerateMessage has them."""
        request = job.request
        if not request.processors:
            return "", -1
        reply = _ReplyProcessors(request)
        kind, patience = "logits", -1
        if isinstance(reply.forcer, TokenForcer):
            job.follows_tokens = True
            reply.forcer.read(reply.ids)
            reply.forcer.wake = lambda: self._send(WakeMessage(key))
            kind, patience = "tokens", reply.forcer.patience()
        else:
            reply.forcer = None
        self._replies[key] = reply
        threading.Thread(target=self._work, args=(reply,), name="logits processors", daemon=True).start()
        return kind, patience

    def received(self, key: int, token: int) -> None:
        """A token of a job that follows them."""
        if reply := self._replies.get(key):
            reply.asked.put(token)

    def ask(self, message: ProcessMessage) -> None:
        """The process waits for an answer."""
        if reply := self._replies.get(message.key):
            reply.asked.put(message)
        else:
            self._send(ProcessedMessage(message.key))

    def end(self, key: int) -> None:
        """The reply has ended."""
        if reply := self._replies.pop(key, None):
            reply.asked.put(None)

    def close(self) -> None:
        """End all threads."""
        for key in tuple(self._replies):
            self.end(key)

    def _work(self, reply: _ReplyProcessors) -> None:
        while (asked := reply.asked.get()) is not None:
            answer = None
            try:
                if isinstance(asked, int):
                    reply.read(asked)
                else:
                    answer = self._answer(asked, reply)
            except UserError:
                log.debug("A logits processor of a model that has ended")  # whoever reads the reply is told
            except Exception:
                log.exception("A logits processor")
            if isinstance(asked, ProcessMessage):
                self._send(answer or ProcessedMessage(asked.key))

    def _answer(self, asked: ProcessMessage, reply: _ReplyProcessors) -> ProcessedMessage:
        ids, forcer = reply.ids, reply.forcer
        ids[asked.at :] = asked.ids
        if isinstance(forcer, TokenForcer):
            token = forcer.forced(ids)
            return ProcessedMessage(asked.key, None, token, forcer.patience())
        logits = asked.logits
        for process in reply.processors:
            logits = process(ids, np.array(logits, np.float32))
        return ProcessedMessage(asked.key, np.asarray(logits, np.float32))
