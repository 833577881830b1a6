"""One thread that owns a llama.cpp context and decodes all running requests in one batch.

Each step: take what has arrived, give free sequences to those who wait, fill a batch (one token for each reply that
runs, then pieces of the prompts), decode, choose a token for each row that asked for logits. It sees token ids and
Jobs; it must not know of text, of chats or of files.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from errors import EngineFailed, ModelClosed, UserError
from loaders.base import Alternative, Finish, Token
from loaders.llamacpp.job import Job
from loaders.llamacpp.native import Batch, Context, Floats, Weights
from loaders.llamacpp.sampling import Sampler, draw_seed
from loaders.llamacpp.sequences import Sequence, Sequences
from loaders.llamacpp.tokenizer import LlamaTokenizer

log = logging.getLogger(__name__)

#: A prompt is cut so that one step takes about this long, in seconds: alone, and while others are being answered.
_STEP_ALONE, _STEP_SHARED = 0.3, 0.1
_SMALLEST_PIECE = 32


@dataclass(slots=True, eq=False)
class Run:
    """A request under way. `ids` are all its tokens; those beyond its sequence's are still to be decoded.

    A run without a sequence was sent back for want of room; it goes on where it was when there is room again.
    """

    job: Job
    ids: list[int]
    sampler: Sampler
    sequence: Sequence | None = None
    added: int = 0  # tokens of it in the batch of this step
    row: int = -1  # where the batch of this step has its logits; -1: it asked for none


class Engine:
    """Continuous batching over one context. `submit` may be called from any thread."""

    def __init__(
        self, weights: Weights, context: Context, tokenizer: LlamaTokenizer, *, parallel: int, n_batch: int
    ) -> None:
        self._weights = weights
        self._context = context
        self._tokenizer = tokenizer
        self._n_batch = n_batch
        self._batch = Batch(n_batch + parallel)
        self._sequences = Sequences(context, parallel)
        self._runs: list[Run] = []  # with a sequence, oldest first
        self._parked: deque[Run] = deque()  # sent back for want of room
        self._waiting: deque[Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._prompt_speed = 0.0  # tokens per second of recent prompt pieces; 0 until measured
        self._thread = threading.Thread(target=self._loop, name="llama.cpp", daemon=True)
        self._thread.start()

    # --- any thread ---

    def submit(self, job: Job) -> None:
        """Queue a request. Raises: ModelClosed."""
        with self._wake:
            if self._closing:
                raise ModelClosed
            self._waiting.append(job)
            self._wake.notify()

    def jobs(self) -> tuple[list[Job], list[Job]]:
        """Who is running and who is waiting, first come first."""
        with self._wake:
            return [run.job for run in self._runs], [run.job for run in self._parked] + list(self._waiting)

    def close(self) -> None:
        """End everything with ModelClosed and wait until the thread has let go of the context."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    # --- the engine's thread ---

    def _loop(self) -> None:
        why: BaseException = ModelClosed()
        try:
            while self._await_work():
                self._drop_cancelled()
                self._admit()
                self._fill()
                if self._batch.size:
                    self._step()
        except BaseException as error:  # a bug here must not leave readers waiting for ever
            log.exception("the engine's thread ended")
            why = EngineFailed(f"an internal error ({error!r}). Unload the model and load it again.")
        with self._wake:
            self._closing = True
        for run in [*self._runs, *self._parked]:
            self._end(run, why)
        for job in self._waiting:
            job.end(why)
        self._waiting.clear()

    def _await_work(self) -> bool:
        """Sleep while there is nothing to do. False when the engine is to close."""
        with self._wake:
            while not (self._closing or self._runs or self._parked or self._waiting):
                self._wake.wait()
            return not self._closing

    def _drop_cancelled(self) -> None:
        for run in [run for run in [*self._runs, *self._parked] if run.job.cancelled]:
            self._end(run, Finish.CANCELLED)
        with self._wake:
            gone = [job for job in self._waiting if job.cancelled]
            for job in gone:
                self._waiting.remove(job)
        for job in gone:
            job.end(Finish.CANCELLED)

    def _admit(self) -> None:
        """Give free sequences to those who were sent back, then to those who wait, in order, while there is room."""
        while self._sequences.has_free():
            if self._parked:
                if not self._has_room(len(self._parked[0].ids)):
                    return
                self._place(self._parked.popleft())
                continue
            with self._wake:
                if not self._waiting or not self._has_room(len(self._waiting[0].request.ids)):
                    return
                job = self._waiting.popleft()
            self._begin(job)

    def _has_room(self, tokens: int) -> bool:
        """Whether the shared cache can hold this many more beside the running ones (idle ones make room)."""
        held = sum(len(run.ids) for run in self._runs)
        return not self._runs or held + tokens + len(self._runs) < self._context.n_ctx

    def _begin(self, job: Job) -> None:
        """Start a request: its sampler, its sequence, what of its prompt is there already."""
        job.start()
        job.report.seed = draw_seed(job.request.params.seed)
        try:
            sampler = Sampler(
                self._weights.vocab,
                self._weights.n_vocab,
                self._context.n_ctx,
                job.request.params,
                job.report.seed,
                end_ids=self._tokenizer.end_ids,
                logit_bias=job.request.logit_bias,
                warnings=job.report.warnings,
            )
        except UserError as error:
            job.end(error)
            return
        run = Run(job, list(job.request.ids), sampler)
        sampler.accept(run.ids)
        job.report.reuse_reason = self._place(run)
        assert run.sequence
        job.report.reused_tokens = len(run.sequence.ids)

    def _place(self, run: Run) -> str:
        """Give a run a sequence; the reason for how many of its tokens that holds already."""
        run.sequence, reason = self._sequences.take(run.ids)
        with self._wake:
            self._runs.append(run)
        return reason

    def _end(self, run: Run, why: Finish | BaseException) -> None:
        """A run is over: its sequence becomes free (what it holds may serve another), its reader is told."""
        run.sampler.close()
        self._withdraw(run)
        if run in self._parked:
            self._parked.remove(run)
        run.job.end(why)

    def _withdraw(self, run: Run) -> None:
        if run.sequence:
            self._sequences.release(run.sequence)
            run.sequence = None
            with self._wake:
                self._runs.remove(run)

    # --- one step ---

    def _fill(self) -> None:
        """One token for each reply that runs, then pieces of prompts, oldest first."""
        self._batch.clear()
        for run in self._runs:
            run.added, run.row = 0, -1
        pending = {run: len(run.ids) - len(run.sequence.ids) for run in self._runs if run.sequence}
        replying = [run for run, count in pending.items() if count == 1]
        for run in replying:
            self._add(run, 1, last=True)
        room = self._piece(shared=bool(replying))
        for run, count in pending.items():
            if count > 1 and room > 0:
                self._add(run, min(count, room), last=count <= room)
                room -= min(count, room)

    def _add(self, run: Run, count: int, *, last: bool) -> None:
        assert run.sequence
        done = len(run.sequence.ids)
        piece = run.ids[done : done + count]
        row = self._batch.add(piece, done, run.sequence.id, logits=last)
        run.sequence.ids.extend(piece)
        run.added, run.row = count, row if last else -1

    def _piece(self, *, shared: bool) -> int:
        """How many prompt tokens this step may process, so that nobody waits long for the next one."""
        smallest, largest = min(_SMALLEST_PIECE, self._n_batch), self._n_batch
        if not self._prompt_speed:
            return min(largest, 128)
        seconds = _STEP_SHARED if shared else _STEP_ALONE
        return max(smallest, min(largest, int(self._prompt_speed * seconds)))

    def _step(self) -> None:
        started = time.monotonic()
        code = self._context.decode(self._batch)
        if code == 0:
            self._note_speed(time.monotonic() - started)
            for run in [run for run in self._runs if run.row >= 0]:
                self._choose(run)
        elif code == 1:
            self._take_back()
            self._make_room()
        else:
            log.error("llama_decode failed with code %d", code)
            self._sequences.clear()
            for run in list(self._runs):
                self._end(run, EngineFailed(f"llama.cpp could not compute a step (code {code}). Try again."))

    def _note_speed(self, seconds: float) -> None:
        if self._batch.size >= _SMALLEST_PIECE and seconds > 0:
            speed = self._batch.size / seconds
            self._prompt_speed = speed if not self._prompt_speed else 0.7 * self._prompt_speed + 0.3 * speed

    def _choose(self, run: Run) -> None:
        """The next token of a run, to its reader."""
        logits = self._context.logits(run.row)
        request = run.job.request
        try:
            token = run.sampler.choose(logits)
        except UserError as error:
            self._end(run, error)
            return
        if token in self._tokenizer.end_ids:
            self._end(run, Finish.STOP)
            return
        run.ids.append(token)
        run.job.put(self._token(token, logits, request.alternatives))
        if run.job.report.new_tokens >= request.max_tokens or len(run.ids) >= self._context.n_ctx:
            self._end(run, Finish.LENGTH)

    def _token(self, token: int, logits: Floats, alternatives: int | None) -> Token:
        piece = self._tokenizer.piece(token, special=True)
        if alternatives is None:
            return Token(token, piece)
        highest = logits.max()
        log_sum = float(highest + np.log(np.exp(logits - highest).sum()))
        count = min(alternatives, len(logits))
        best = np.argpartition(logits, -count)[-count:] if count else np.array([], np.int64)
        best = best[np.argsort(-logits[best], kind="stable")]
        others = tuple(
            Alternative(int(i), self._tokenizer.piece(int(i), special=True), float(logits[i]) - log_sum) for i in best
        )
        return Token(token, piece, float(logits[token]) - log_sum, others)

    # --- want of room ---

    def _take_back(self) -> None:
        """What the failed batch was to add is not in the cache."""
        for run in self._runs:
            if run.added and run.sequence:
                self._sequences.cut(run.sequence, len(run.sequence.ids) - run.added)

    def _make_room(self) -> None:
        """The shared cache is full: empty an idle sequence, else send the youngest run back to wait."""
        if self._sequences.drop_idle():
            return
        youngest = self._runs[-1]
        sequence = youngest.sequence
        assert sequence
        self._withdraw(youngest)
        if not self._runs:  # it fills the cache all alone
            self._end(youngest, Finish.LENGTH)
            return
        self._sequences.cut(sequence, 0)
        self._parked.appendleft(youngest)
