"""Requests that wait for their grammars without a place, so that a slow grammar only delays its own request.

A request with a grammar is in this list until the grammar has been read, and again whenever an answer takes long while
others wait for a place. Only used by the engine's thread; it must not know what is computed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Generic, TypeVar

from loaders.engine.active_request import ActiveRequest
from loaders.engine.request_queue import RequestQueue
from loaders.job import EngineTask, Job

#: A request whose grammar has not answered for this long gives up its place if others wait, in seconds.
PATIENCE = 0.1

R = TypeVar("R", bound=ActiveRequest)


class GrammarWaitList(Generic[R]):
    """The waiting requests, and their ways out of the queue and back into it."""

    def __init__(self, queue: RequestQueue[Job | R]) -> None:
        self._queue = queue
        self.requests: list[R] = []

    def take_from_queue(self) -> list[Job]:
        """Remove requests from the queue whose grammars must be read before they get a place.

        Those behind a task stay: they must run after it.
        """
        if not len(self._queue):  # true at nearly every step
            return []
        found = self._queue.take_before(_has_grammar, lambda item: isinstance(item, EngineTask))
        return [item for item in found if isinstance(item, Job)]

    def overdue(self, runs: Sequence[R]) -> list[R]:
        """The running requests that have waited too long for their grammars."""
        before = time.monotonic() - PATIENCE
        return [run for run in runs if run.waits and run.sampler and run.sampler.asked_at < before]

    def add(self, run: R) -> None:
        self.requests.append(run)

    def remove(self, run: R) -> None:
        if run in self.requests:
            self.requests.remove(run)

    def requeue(self, until: float) -> None:
        """Put all that no longer wait back into the queue. Others may be waited for until then (monotonic)."""
        for run in list(self.requests):
            if run.waits or (run.sampler and not _is_read(run, until)):
                continue
            self.requests.remove(run)
            # a started request continues as the next one; and a task must not overtake older requests
            task = any(isinstance(job, EngineTask) for job in self._queue.jobs())
            if task or run.job.started:
                self._queue.requeue(run, first=True)
            else:
                self._queue.requeue_by_age(run)


def _is_read(run: ActiveRequest, until: float) -> bool:
    assert run.sampler
    return run.sampler.ready(max(0.0, until - time.monotonic())) and not run.sampler.problem


def _has_grammar(item: Job | ActiveRequest) -> bool:
    return isinstance(item, Job) and bool(item.request.params.grammar_string.strip())
