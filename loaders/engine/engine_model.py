"""A Model over an engine that processes a queue of jobs: what all engines have in common.

A concrete model provides the engine and checks whether a job's prompts fit. It must not know what an engine does.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from errors import Cancelled, EmptyPrompt, EngineFailed, InvalidInput, InvalidToken, ModelClosed
from loaders.base import Finish, Model, QueueEntry, Request, TokenStream
from loaders.engine.engine import Engine
from loaders.job import EngineTask, Job, LogitsRequest, ScoreRequest


class QueuedModel(Model):
    """Every request becomes a job, is checked and queued; without a reply to stream, the caller waits for it."""

    _engine: Engine[Any]

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._open: list[Job] = []  # submitted jobs that have not ended, and possibly some that have

    @abstractmethod
    def _check_room(self, job: Job) -> None:
        """Whether the job's prompts fit. Raises: PromptTooLong."""

    def generate(self, request: Request) -> TokenStream:
        """Raises: EmptyPrompt, PromptTooLong, InvalidToken, ModelClosed."""
        job = Job(request)
        self.start(job)
        return job

    def start(self, job: Job) -> None:
        """Queue an existing job. Raises: as `generate`."""
        if job.request.max_tokens < 1:
            job.end(Finish.LENGTH)
        else:
            self._submit(job)

    def on_step(self, told: Callable[[], None]) -> None:
        """Call this, in the engine's thread, when the jobs have got the tokens of a step."""
        self._engine.after_step = told

    def next_logits(self, request: Request) -> npt.NDArray[np.float32]:
        probe = LogitsRequest(request)
        self._submit(probe)
        self._wait(probe)
        assert probe.logits is not None
        return probe.logits

    def score(
        self, ids: Sequence[int], cancel: threading.Event | None = None, start: int = 0
    ) -> npt.NDArray[np.float32]:
        if len(ids) < 2 + start:
            return np.zeros(0, np.float32)
        scoring = ScoreRequest(Request(ids, cancel=cancel or threading.Event(), label="scoring"), start)
        self._submit(scoring)
        self._wait(scoring)
        return scoring.logprobs[start:]

    def queue(self) -> Sequence[QueueEntry]:
        with self._guard:
            submitted = [job for job in self._open if not (job.ended or job.request.yields)]
        running, waiting = self._engine.jobs()
        running = [job for job in running if not job.request.yields]  # nobody waits for them
        # the engine may be moving one between the lists: each is shown once
        waiting = [job for job in waiting if job not in running]
        between = [job for job in submitted if job not in running and job not in waiting and not job.ended]
        running += [job for job in between if job.started]
        waiting = [*(job for job in between if not job.started), *waiting]
        return [
            QueueEntry(
                id=job.request.id,
                label=job.request.label,
                place=place,
                prompt_tokens=job.report.prompt_tokens,
                new_tokens=job.report.new_tokens,
                tokens_per_second=job.tokens_per_second,
                cancel=job.request.cancel,
            )
            for place, job in [*((0, job) for job in running), *enumerate(waiting, 1)]
        ]

    def forget(self, label: str) -> None:
        with suppress(ModelClosed, EngineFailed):  # then nothing is left
            self._engine.forget(label)

    def _between_requests(self, do: Callable[[], None], label: str) -> None:
        """Do something on the engine's thread: after what was asked before, and before what is asked later.

        Returns when it is done. Raises: its error; ModelClosed, EngineFailed.
        """
        task = EngineTask(do, label)
        self._engine.submit(task)
        self._wait(task)

    def _submit(self, job: Job) -> None:
        request = job.request
        if request.alternatives is not None and request.alternatives < 0:
            raise InvalidInput("The number of alternatives per token must be >= 0.")
        if not request.ids:
            raise EmptyPrompt
        for ids in job.prompts:
            for token in (min(ids), max(ids)):
                if not 0 <= token < self.tokenizer.n_vocab:
                    raise InvalidToken(token, self.tokenizer.n_vocab)
        self._check_room(job)
        with self._guard:
            self._open = [each for each in self._open if not each.ended]
            self._open.append(job)
        try:
            self._engine.submit(job)
        except BaseException as error:
            job.end(error)
            raise

    def _wait(self, job: Job) -> None:
        """Wait until a job without a reply is done. Raises its error."""
        for _ in job:
            pass
        if job.report.finish is Finish.CANCELLED:
            raise Cancelled
