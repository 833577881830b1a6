"""One thread that owns ExLlamaV2's generator and works off all requests, in the order in which they came.

With paged attention up to `parallel` replies run in the generator's batch; without it one at a time. Some things run
alone, when nothing else does: scores, guidance without paged attention, a change of adapters; what came later waits
behind them, so that nothing is overtaken. It sees token ids and Jobs; it must not know of text, chats or files.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from errors import EngineFailed, ModelClosed, NotNumbers, OutOfGpuMemory, PromptTooLong, UserError
from loaders.base import Finish, Lora, Tokenizer
from loaders.exllamav2.adapters import Adapters
from loaders.exllamav2.dynamic import Reply
from loaders.exllamav2.native import ROWS, Weights, is_out_of_memory, pages
from loaders.exllamav2.options import Bits
from loaders.exllamav2.pair import Pair
from loaders.hf.run import Run
from loaders.job import Job, Probe, Scoring
from loaders.sampler import sampler_of

log = logging.getLogger(__name__)


class Errand:
    """Something to be done between requests; who asked for it waits."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action
        self.done = threading.Event()
        self.error: BaseException | None = None

    def end(self, error: BaseException | None) -> None:
        self.error = error
        self.done.set()


class Engine:
    """The queue and the thread. `submit`, `room`, `jobs`, `set_loras` and `close` may be called from any thread."""

    def __init__(
        self, weights: Weights, tokenizer: Tokenizer, end_ids: frozenset[int], parallel: int, cache: Bits
    ) -> None:
        self._weights = weights
        self._generator = weights.generator
        self._paged = weights.paged
        self._pages = int(weights.generator.max_pages)
        self._guessed = int(weights.generator.num_draft_tokens)  # tokens that one step may try ahead
        self._tokenizer = tokenizer
        self._ends = end_ids
        self._parallel = parallel if weights.paged else 1
        self._kind = cache
        self._adapters = Adapters(weights.model)
        self._loras: list[Any] | None = None
        self._pair: Pair | None = None
        self._runs: dict[Run, Reply | None] = {}  # oldest first; None for one that runs alone
        self._alone: Iterator[None] | None = None
        self._waiting: deque[Job | Errand] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._why_closed: UserError = ModelClosed()
        self._thread = threading.Thread(target=self._loop, name="ExLlamaV2", daemon=True)
        self._thread.start()

    # --- any thread ---

    def submit(self, job: Job) -> None:
        """Queue a request. Raises: PromptTooLong, ModelClosed, EngineFailed."""
        room = self.room(job.prompts)
        if room < 1 and not isinstance(job, Scoring):
            tokens = sum(len(ids) for ids in job.prompts)
            raise PromptTooLong(tokens, max(tokens + room - 1, 0))
        self._queue(job)

    def room(self, prompts: Sequence[Sequence[int]]) -> int:
        """How many tokens can follow these prompts; 0 or less where they do not fit."""
        guessed = self._guessed
        new = self._weights.context_length - max(len(ids) for ids in prompts) - guessed
        if self._paged and self._together(prompts):
            while new > 0 and sum(pages(len(ids) + new + guessed) for ids in prompts) > self._pages:
                new -= 1
        return new

    def jobs(self) -> tuple[list[Job], list[Job]]:
        """Who is running and who is waiting, first come first."""
        with self._wake:
            admitted = [run.job for run in tuple(self._runs)]
            waiting = [job for job in self._waiting if isinstance(job, Job)]
        return [job for job in admitted if job.started], [job for job in admitted if not job.started] + waiting

    def set_loras(self, loras: Sequence[Lora]) -> None:
        """Let these adapters act on all later requests; returns when they do. Raises: AdapterUnfit, ModelClosed."""

        def change() -> None:
            self._loras = self._adapters.set(loras)
            self._generator.current_loras = self._loras
            self._generator.reset_page_table()  # the pages are found by tokens alone
            if self._pair:
                self._pair.forget()

        errand = Errand(change)
        self._queue(errand)
        errand.done.wait()
        if errand.error:
            raise errand.error

    def close(self) -> None:
        """End everything with ModelClosed and wait until the thread has let go of the generator."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        self._generator = self._pair = self._loras = None

    def _queue(self, item: Job | Errand) -> None:
        with self._wake:
            if self._closing:
                raise self._why_closed
            self._waiting.append(item)
            self._wake.notify()

    # --- the engine's thread ---

    def _loop(self) -> None:
        try:
            while self._await_work():
                self._drop_cancelled()
                self._admit()
                self._step()
        except BaseException as error:  # a bug here must not leave readers waiting for ever
            log.exception("the engine's thread ended")
            self._why_closed = EngineFailed(f"an internal error ({error!r}). Unload the model and load it again.")
        with self._wake:
            self._closing = True
        for run in list(self._runs):
            self._end(run, self._why_closed)
        for item in self._waiting:
            item.end(self._why_closed)
        self._waiting.clear()

    def _await_work(self) -> bool:
        """Sleep while there is nothing to do. False when the engine is to close."""
        with self._wake:
            while not (self._closing or self._runs or self._waiting):
                self._wake.wait()
            return not self._closing

    def _drop_cancelled(self) -> None:
        for run in [run for run in self._runs if run.job.cancelled]:
            self._end(run, Finish.CANCELLED)
        with self._wake:
            gone = [item for item in self._waiting if isinstance(item, Job) and item.cancelled]
            for job in gone:
                self._waiting.remove(job)
        for job in gone:
            job.end(Finish.CANCELLED)

    def _admit(self) -> None:
        """Let in who waits, in order, while the first of them can run beside the others."""
        while not self._alone and len(self._runs) < self._parallel:
            with self._wake:
                if not self._waiting or (self._runs and self._runs_alone(self._waiting[0])):
                    return
                item = self._waiting.popleft()
            try:
                if isinstance(item, Errand):
                    item.action()
                    item.end(None)
                else:
                    self._begin(item)
            except UserError as error:
                item.end(error)
            except Exception as error:
                item.end(_failure(error))

    def _runs_alone(self, item: Job | Errand) -> bool:
        return isinstance(item, Errand | Scoring) or not self._together(item.prompts)

    def _together(self, prompts: Sequence[object]) -> bool:
        """Whether the generator itself can take these prompts: two only with pages, and not while it guesses ahead."""
        return len(prompts) == 1 or (self._paged and not self._guessed)

    def _begin(self, job: Job) -> None:
        """Start a request: its sampler, its place in the generator. Raises: UserError."""
        if isinstance(job, Scoring):
            run = Run(job, None, self._tokenizer, self._ends, 0)
            self._alone = self._score(job, run)
        else:
            new = 1 if isinstance(job, Probe) else min(job.request.max_tokens, self.room(job.prompts))
            sampler = None
            if not isinstance(job, Probe):
                sampler = sampler_of(job, self._tokenizer, self._ends, n_ctx=self._weights.context_length)
            run = Run(job, sampler, self._tokenizer, self._ends, new)
            if self._together(job.prompts):
                # the generator stops early by as many tokens as it may guess
                reply = Reply(run, job.prompts, new + self._guessed, self._ends)
                self._generator.enqueue(reply)
                with self._wake:
                    self._runs[run] = reply
                return
            self._alone = self._guide(job, run)
        job.start()
        with self._wake:
            self._runs[run] = None

    def _end(self, run: Run, why: Finish | BaseException) -> None:
        """A run is over: its pages become free (what they hold may serve another), its reader is told."""
        with self._wake:
            reply = self._runs.pop(run)
        if reply is None:
            self._alone = None
        else:
            self._generator.cancel(reply)  # nothing happens where the generator has ended it by itself
        run.job.end(why)

    # --- one step ---

    def _step(self) -> None:
        if not self._runs:
            return
        try:
            if self._alone:
                next(self._alone)
            else:
                self._generator.iterate()
        except Exception as error:
            self._fail(error)
            return
        for run, reply in list(self._runs.items()):
            report = run.job.report
            if reply and run.job.first_token and not report.reuse_reason:
                _tell(run.job, reply.reused)
            if run.over is not None:
                self._end(run, run.over)

    def _fail(self, error: Exception) -> None:
        """A step has failed: what was in it ends, and nothing that it may have half written is found again."""
        why = _failure(error)
        self._generator.pending_jobs.clear()
        self._generator.active_jobs.clear()
        self._generator.reset_page_table()
        if self._pair:
            self._pair.forget()
        for run in list(self._runs):
            self._end(run, why)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _guide(self, job: Job, run: Run) -> Iterator[None]:
        """Guidance without pages: both prompts in a cache of their own, decoded together."""
        if self._pair is None:
            self._pair = Pair(self._weights, self._kind)
        pair = self._pair
        for reused in pair.read(job.prompts, self._loras):
            if not job.report.reuse_reason:
                _tell(job, reused)
            yield
        pair.begin(job.prompts)
        tokens = [ids[-1] for ids in job.prompts]
        while True:
            tokens = [run.choose(pair.step(tokens, self._loras))] * 2
            yield

    def _score(self, job: Scoring, run: Run) -> Iterator[None]:
        """The log-probability of each token after the first, in the generator's own cache, which is empty after it."""
        ids, cache, n_vocab = list(job.request.ids), self._weights.cache, self._tokenizer.n_vocab
        self._generator.reset_page_table()
        for at in range(0, len(ids) - 1, ROWS):
            piece = ids[at : min(at + ROWS, len(ids) - 1)]
            cache.current_seq_len = at
            logits = self._weights.model.forward(torch.tensor([piece], dtype=torch.long), cache, loras=self._loras)
            logprobs = torch.log_softmax(logits[0, :, :n_vocab].float(), dim=-1)
            after = torch.tensor(ids[at + 1 : at + 1 + len(piece)], device=logprobs.device)
            found = logprobs.gather(1, after[:, None])[:, 0].cpu().numpy()
            if found.size and not (found <= 0).all():  # NaN is not
                run.over = NotNumbers()
            job.logprobs[at : at + len(piece)] = found
            yield
        run.over = Finish.STOP
        yield


def _tell(job: Job, reused: int) -> None:
    job.report.reused_tokens = reused
    job.report.reuse_reason = "from the cache" if reused else "nothing in the cache begins like it"


def _failure(error: Exception) -> UserError:
    """The error that readers get for one of the engine's."""
    if isinstance(error, UserError):
        return error
    log.error("a step failed inside ExLlamaV2", exc_info=error)
    return OutOfGpuMemory() if is_out_of_memory(error) else EngineFailed(f"ExLlamaV2 failed ({error!r}).")
