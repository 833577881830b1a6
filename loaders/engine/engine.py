"""The base class of all engines: one thread that admits requests, has them computed step by step, and ends them.

A concrete engine provides what a request needs to be computed, and computes the steps. Scheduling, turns, cancelling,
slow grammars, tasks between steps, failure and closing are implemented here. It handles Jobs; it must not know about
logits, caches or backend libraries.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from errors import EngineFailed, ModelClosed, UserError
from loaders.base import Finish
from loaders.engine import scheduling
from loaders.engine.active_request import ActiveRequest
from loaders.engine.grammar_wait_list import GrammarWaitList
from loaders.engine.read_ahead import ReadAhead
from loaders.engine.request_queue import RequestQueue
from loaders.grammar.matcher import GrammarEngine
from loaders.job import EngineTask, Job
from loaders.labels import is_of

log = logging.getLogger(__name__)

#: The time that a step waits for the answers of all grammars together, in seconds (not for those whose last answer took
#: longer), and the time if there is nothing else to do.
GRACE, NAP = 0.01, 0.05
#: Seconds without requests after which there is time for other work.
IDLE = 5.0
#: How many requests are remembered by their labels: more than any cache holds.
_LABELS = 4096

R = TypeVar("R", bound=ActiveRequest)


class Engine(ABC, Generic[R]):
    """`submit`, `jobs` and `close` may be called from any thread; everything private runs in the engine's own
    thread.
    """

    def __init__(self, name: str, places: int, grammars: GrammarEngine | None = None) -> None:
        """`name` is the thread's. Up to `places` requests are computed at a time. `grammars`: None if requests are
        answered without grammars. The last line of a concrete engine's constructor is `self._thread.start()`.
        """
        self._places = places
        self._grammars = grammars
        self._queue: RequestQueue[Job | R] = RequestQueue()
        self._runs: list[R] = []  # requests that have a place, oldest first
        self._slow: GrammarWaitList[R] = GrammarWaitList(self._queue)
        self._last = ""  # the client that got the last place
        self._ahead = ReadAhead()
        self._labels: deque[str] = deque(maxlen=_LABELS)  # of requests that got a place
        self._doomed = False  # whether what was computed is to be forgotten as soon as nothing uses it
        #: Called in the engine's thread when the jobs have got the tokens of a step.
        self.after_step: Callable[[], object] = _nobody
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    # --- any thread ---

    def submit(self, job: Job) -> None:
        """Queue a request. Raises: ModelClosed, EngineFailed."""
        self._queue.put(job)

    def jobs(self) -> tuple[list[Job], list[Job]]:
        """The running and the waiting jobs, oldest first."""
        taken = [run.job for run in (*self._runs, *self._slow.requests)]
        running = [job for job in taken if job.started]
        return running, [*(job for job in taken if not job.started), *self._queue.jobs()]

    def forget(self, label: str) -> None:
        """Do not reuse what was computed for requests of this label (loaders/labels.py).

        Returns when that is so, after the running step. Raises: ModelClosed, EngineFailed.
        """
        self._queue.call_soon(lambda: self._forget_all_of(label)).result()

    def close(self) -> None:
        """End all requests with ModelClosed and wait until the thread has ended."""
        self._queue.close(ModelClosed())
        self._thread.join()

    # --- what a concrete engine does ---

    @abstractmethod
    def _prepare(self, job: Job) -> R:
        """Create the engine's request for a job: with its sampler, without a place. Raises: UserError."""

    @abstractmethod
    def _place(self, run: R) -> None:
        """Allocate what it needs to be computed; if this raises, `_release` follows. Raises: UserError."""

    @abstractmethod
    def _release(self, run: R) -> None:
        """Free what `_place` allocated, if anything: the request has ended, or others go first."""

    @abstractmethod
    def _step(self) -> bool:
        """Compute the next step of the requests that have a place; False if there is nothing to compute.

        If it raises, all of them end with the reason, and nothing that they computed is reused.
        """

    @abstractmethod
    def _forget(self) -> None:
        """Do not reuse anything that was computed so far."""

    def _forget_label(self, label: str) -> None:
        """Do not reuse anything that was computed for this label: nothing at all, unless an engine knows what it is."""
        if any(is_of(each, label) for each in self._labels):
            self._labels.clear()
            self._doomed = True

    def _fits(self, item: Job | R) -> bool:
        """Whether it can be computed together with the requests that have a place; not called if there are none."""
        del item
        return True

    def _can_pause(self, run: R) -> bool:
        """Whether it can give up its place without having to compute much again."""
        del run
        return False

    def _refuses(self, job: Job) -> str:
        """Why a yielding request is not computed now, as a clause: others would lose what was computed for them."""
        del job
        return ""

    def _held(self, run: R) -> int:
        """How many of its tokens have been computed or reused so far."""
        return run.job.report.prompt_tokens if run.job.first_token else 0

    def _continue(self, run: R, seconds: float) -> None:
        """Its grammar has been asked for the next token: continue if it has answered, waiting at most this long."""

    def _use_rest(self) -> bool:
        """There have been no requests for a while: do something short; returns whether there is more to do."""
        return False

    def _abandon_step(self) -> None:
        """Called when a step has failed, before its requests end."""

    def _explain(self, error: BaseException) -> UserError | None:
        """The UserError for a known error of the library."""
        del error
        return None

    # --- the engine's thread ---

    def _loop(self) -> None:
        try:
            while self._await_work():
                self._queue.run_calls()
                self._drop_cancelled()
                self._read_grammars()
                self._settle()
                self._end_yielding()
                self._take_turns()
                self._admit()
                self._admit_yielding()
                self.after_step()  # for what late grammars allowed
                if not self._compute():
                    self._settle(NAP, idle=True)
                self.after_step()
        except BaseException as error:  # a bug here must not leave readers waiting forever
            log.exception("the engine thread failed")
            self._queue.close(EngineFailed(f"internal error ({error!r}). Unload the model, then load it again."))
        why = self._queue.closed or ModelClosed()
        left: list[Job | R] = [*self._runs, *self._slow.requests]
        while self._queue.first:
            left.append(self._queue.take())
        while item := self._queue.take_yielding():
            left.append(item)
        for item in left:
            with contextlib.suppress(Exception):
                self._end(item, why)
        self._queue.run_calls()  # the queue is closed, so these are the last ones

    def _forget_all_of(self, label: str) -> None:
        self._ahead.forget(label)
        self._forget_label(label)
        self._drop_doomed()

    def _drop_doomed(self) -> None:
        if self._doomed and not self._runs and not self._slow.requests:
            self._doomed = False
            self._forget()

    def _await_work(self) -> bool:
        """Sleep while there is nothing to do. False if the engine is to close."""
        if not self._runs and not self._slow.requests:
            self._drop_doomed()
            self._rest()
        return self._queue.closed is None

    def _rest(self) -> None:
        """Sleep until there is something to do."""
        more = True
        while not self._queue.wait(IDLE if more else None):
            more = self._use_rest()

    def _drop_cancelled(self) -> None:
        leaving = [run for run in (*self._runs, *self._slow.requests) if run.job.cancelled]
        for item in [*leaving, *self._queue.take_cancelled()]:
            self._end(item, Finish.CANCELLED)

    def _read_grammars(self) -> None:
        """Remove requests with grammars from the queue until their grammars have been read."""
        if not self._grammars:
            return
        for job in self._slow.take_from_queue():
            try:
                self._slow.add(self._prepare(job))
            except Exception as error:
                self._end(job, self._describe(error))

    def _settle(self, seconds: float = 0, *, idle: bool = False) -> None:
        """Continue the requests whose grammars have answered, waiting at most this long for all of them together.

        Grammars known to be slow are not waited for, except if there is nothing else to do (`idle`).
        """
        until = time.monotonic() + seconds
        for run in [*self._runs, *self._slow.requests]:
            if run.sampler is not None and run.sampler.has_grammar:
                self._guard(run, lambda run: self._hear_grammar(run, until, idle=idle))
        if self._slow.requests:
            self._slow.requeue(until)

    def _hear_grammar(self, run: R, until: float, *, idle: bool) -> None:
        assert run.sampler
        if run.sampler.problem:
            raise run.sampler.problem
        if run.sampler.waits:
            worth = idle or run.sampler.answers_within(GRACE)
            self._continue(run, max(0.0, until - time.monotonic()) if worth else 0.0)

    def _take_turns(self) -> None:
        """While others wait and no place is free, move replies that have had their turn to the end of the queue.

        Only if that costs almost nothing. Requests that wait for their grammars leave in any case.
        """
        if len(self._runs) < self._places or not len(self._queue):
            return
        if any(isinstance(job, EngineTask) for job in self._queue.jobs()):
            return  # older requests end before it: after it, another adapter would be active
        for run in self._slow.overdue(self._runs):
            self._withdraw(run)
            self._slow.add(run)
        paused = [
            run
            for run in scheduling.replies_to_pause(self._runs, self._queue, self._places)
            if self._can_pause(run) and not run.job.request.yields
        ]
        for run in paused[: len(self._queue)]:
            self._withdraw(run)
            self._queue.requeue(run, first=False)

    def _admit(self) -> None:
        """Admit waiting requests while there is room for the next: the oldest of the clients with the fewest places."""
        while len(self._runs) < self._places and (first := self._next()):
            if not self._may_enter(first):
                return
            item = self._queue.take()
            if self._enter(item) and not isinstance(item, EngineTask):
                self._last = scheduling.client_of(item)

    def _enter(self, item: Job | R) -> bool:
        """Give it a place, or run it if it is a task; returns whether that succeeded."""
        try:
            if isinstance(item, EngineTask):
                self._run_task(item)
                return True
            if isinstance(item, Job):
                item = self._prepare(item)
            self._place(item)
        except BaseException as error:
            self._end(item, self._describe(error))
            if not isinstance(error, Exception):
                raise
            return False
        self._labels.append(item.job.request.label)
        item.turn = 0
        self._runs.append(item)
        return True

    # --- yielding requests ---

    def _end_yielding(self) -> None:
        """End them if there is anything else to do. What they have read stays."""
        taken = [*self._runs, *self._slow.requests]
        leaving = [run for run in taken if run.job.request.yields]
        if leaving and (len(self._queue) or len(leaving) < len(taken)):
            for run in leaving:
                self._end(run, Finish.CANCELLED)

    def _admit_yielding(self) -> None:
        """Admit one if there is nothing else to do, and nobody loses anything by it."""
        if self._runs or self._slow.requests or len(self._queue) or not (item := self._queue.take_yielding()):
            return
        assert isinstance(item, Job)
        grammar = "its grammar must be read first" if item.request.params.grammar_string.strip() else ""
        if why := grammar or self._refuses(item):
            item.report.warnings.append(f"Not computed ahead: {why}.")
            self._end(item, Finish.CANCELLED)
        else:
            self._enter(item)

    def _in_the_way(self, job: Job) -> bool:
        """Whether a request is yielding and others wait. From any thread."""
        return job.request.yields and len(self._queue) > 0

    def _next(self) -> Job | R | None:
        """The next request in the queue, with fair scheduling."""
        return scheduling.next_request(self._runs, self._queue, self._last)

    def _may_enter(self, item: Job | R) -> bool:
        if isinstance(item, EngineTask):
            return not (self._runs or self._slow.requests)
        return not self._runs or self._fits(item)

    def _run_task(self, task: EngineTask) -> None:
        task.start()
        try:
            task.do()
        except UserError as error:  # nothing has changed then
            self._end(task, error)
            return
        except BaseException:
            self._forget()
            raise
        self._forget()
        self._end(task, Finish.STOP)

    def _compute(self) -> bool:
        """Compute a step; returns whether there was one."""
        try:
            return self._step()
        except Exception as error:
            why = self._describe(error)
            self._abandon_step()
            for run in list(self._runs):
                self._end(run, why)
            self._forget()
            return True

    def _guard(self, run: R, do: Callable[[R], None]) -> None:
        """Run `do`; an error ends only this request."""
        try:
            do(run)
        except Exception as error:
            self._end(run, self._describe(error))

    def _describe(self, error: BaseException) -> UserError:
        """The error that readers get."""
        if isinstance(error, UserError):
            return error
        log.error("a request failed inside the engine", exc_info=error)
        return self._explain(error) or EngineFailed(f"internal error ({error!r}). See the log for details.")

    def _end(self, item: Job | R, why: Finish | BaseException) -> None:
        """End a request: its place becomes free (its computed tokens may be reused), and its reader is notified."""
        try:
            if not isinstance(item, Job):
                self._ahead.settle(item.job, self._held(item))
                item.deliver_rest(wanted=why in (Finish.STOP, Finish.LENGTH))
                item.close()
                self._slow.remove(item)
                self._withdraw(item)
        finally:
            item.job.end(why)  # in any case, so that nobody waits forever

    def _withdraw(self, run: R) -> None:
        """Take the place away from a request."""
        self._release(run)
        if run in self._runs:
            self._runs.remove(run)


def _nobody() -> None:
    """Whoever reads a job is told by its queue."""
