"""One thread that owns a decoder and answers requests in the order in which they came.

What a request has read stays in the decoder's branches: the next one reads only what differs, and so does the
negative prompt of guidance. It sees token ids and Jobs; it must not know of text, of torch or of files.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from errors import EngineFailed, ModelClosed, UserError
from loaders.base import Finish, Token, Tokenizer
from loaders.hf.decoder import Decoder
from loaders.hf.lookup import guesses
from loaders.hf.run import Run
from loaders.job import Errand, Job, Probe, Scoring
from loaders.line import Line
from loaders.logits import Floats, checked, log_softmax
from loaders.params import SamplingParams
from loaders.sampler import Grammar, sampler_of
from loaders.sampling import Scratch

log = logging.getLogger(__name__)

#: Rows of logits of one step while scoring.
_SCORED = 128


class Search(Protocol):
    """Ways to a reply that are no draw token by token: beams, contrastive search."""

    def wants(self, params: SamplingParams) -> bool: ...

    def run(self, job: Job, max_new: int, go_on: Callable[[], bool]) -> Iterator[int]:
        """The reply's tokens, without the end token; it ends when `go_on` says no. Raises: UserError."""
        ...


class Engine:
    """`submit`, `jobs` and `close` may be called from any thread."""

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        end_ids: frozenset[int],
        *,
        name: str,
        grammar: Callable[[SamplingParams], Grammar | None],
        search: Search | None = None,
        explain: Callable[[Exception], UserError | None] = lambda _: None,
    ) -> None:
        """`grammar` parses a request's grammar; `explain` turns a backend's errors into ours, where it knows them."""
        self._decoder = decoder
        self._tokenizer = tokenizer
        self._ends = end_ids
        self._grammar = grammar
        self._search = search
        self._explain = explain
        self._scratch = Scratch(tokenizer.n_vocab)
        self._line: Line[Job] = Line()
        self._running: Job | None = None
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    # --- any thread ---

    def submit(self, job: Job) -> None:
        """Queue a request. Raises: ModelClosed, EngineFailed."""
        self._line.join(job)

    def jobs(self) -> tuple[list[Job], list[Job]]:
        """Who is running and who is waiting, first come first."""
        running = self._running
        waiting = [job for job in self._line.jobs() if not isinstance(job, Errand)]
        return [running] if running and not isinstance(running, Errand) else [], waiting

    def close(self) -> None:
        """End everything with ModelClosed and wait until the thread has let go of the decoder."""
        self._line.close(ModelClosed())
        self._thread.join()

    # --- the engine's thread ---

    def _loop(self) -> None:
        try:
            while self._next():
                assert self._running
                self._running.end(self._serve(self._running))
                self._running = None
        except BaseException as error:  # a bug here must not leave readers waiting for ever
            log.exception("the engine's thread ended")
            self._line.close(EngineFailed(f"an internal error ({error!r}). Unload the model and load it again."))
        why = self._line.closed or ModelClosed()
        if self._running:
            self._running.end(why)
        while self._line.first:
            self._line.take().end(why)

    def _next(self) -> bool:
        """Wait for a request and let it in. False when the engine is to close."""
        self._line.wait()
        if self._line.closed:
            return False
        self._running = self._line.take()
        return True

    def _serve(self, job: Job) -> Finish | BaseException:
        """Answer a request; why it ended."""
        if job.cancelled:
            return Finish.CANCELLED
        job.start()
        try:
            if isinstance(job, Errand):
                job.do()
                self._decoder.forget()
                return Finish.STOP
            if isinstance(job, Scoring):
                return self._score(job)
            return self._reply(job)
        except UserError as error:
            return error
        except Exception as error:
            log.exception("a request failed")
            self._decoder.forget()
            return self._explain(error) or EngineFailed(f"an internal error ({error!r}). The log has more.")

    def _reply(self, job: Job) -> Finish | BaseException:
        params = job.request.params
        room = self._decoder.room([len(ids) for ids in job.prompts])
        if isinstance(job, Probe):
            return self._decode(job, Run(job, None, self._tokenizer, self._ends, 1))
        max_new = min(job.request.max_tokens, room)
        if self._search and self._search.wants(params):
            return self._searched(job, max_new)
        sampler = sampler_of(
            job,
            self._tokenizer,
            self._ends,
            n_ctx=self._decoder.n_ctx,
            grammar=self._grammar(params),
            scratch=self._scratch,
        )
        try:
            return self._decode(job, Run(job, sampler, self._tokenizer, self._ends, max_new))
        finally:
            sampler.close()

    def _going_on(self, job: Job) -> bool:
        """Whether to compute on for this request; who waits and does not want to any more is let out meanwhile."""
        for waiting in self._line.take_cancelled():
            waiting.end(Finish.CANCELLED)
        return not (job.cancelled or self._line.closed)

    def _stopped(self, job: Job) -> Finish | BaseException | None:
        """Why nothing more may be computed for this request, if so."""
        return Finish.CANCELLED if job.cancelled else self._line.closed

    def _decode(self, job: Job, run: Run) -> Finish | BaseException:
        """Read the prompts, then one token after the other."""
        lanes = [list(ids) for ids in job.prompts]
        rows: list[Floats] = []
        self._decoder.in_use = len(lanes)
        for branch, ids in enumerate(lanes):
            if not branch:
                self._tell(job, self._decoder.begin(branch, ids))
            rows.append(self._decoder.read(branch, ids, go_on=lambda: self._going_on(job)))
            if not len(rows[-1]):
                return self._stopped(job) or Finish.CANCELLED
        lookup = job.request.params.prompt_lookup_num_tokens if len(lanes) == 1 else 0
        logits, guessed = np.concatenate(rows), list[int]()
        while True:
            for place in range(len(guessed) + 1):
                token = run.choose(logits[place : place + 1] if guessed else logits)
                if not self._going_on(job) or run.over is not None:
                    return run.over or self._stopped(job) or Finish.CANCELLED
                for lane in lanes:
                    lane.append(token)
                if place < len(guessed) and token != guessed[place]:
                    break
            if guessed and not self._decoder.cut(0, len(lanes[0]) - 1):
                lookup = 0  # reading the whole text anew after each guess is slower than not to guess
            guessed = guesses(lanes[0], min(lookup, self._decoder.n_ctx - len(lanes[0]))) if lookup else []
            if guessed:
                logits = self._decoder.read(0, [*lanes[0], *guessed], 1 + len(guessed))
            elif len(lanes) == 1:
                logits = self._decoder.step(0, lanes[0])
            else:
                logits = np.concatenate([self._decoder.step(branch, ids) for branch, ids in enumerate(lanes)])

    def _searched(self, job: Job, max_new: int) -> Finish | BaseException:
        """A reply that is searched for: token by token, or all at once when the search is over."""
        assert self._search
        if job.request.alternatives is not None:
            job.report.warnings.append("A reply that is searched for has no log-probabilities: none are given.")
        if job.request.processors:
            job.report.warnings.append("Extensions that change logits have no effect on a reply that is searched for.")
        for token in self._search.run(job, max_new, lambda: self._going_on(job)):
            if not self._going_on(job):
                break
            if token in self._ends:
                return Finish.STOP
            job.put(Token(token, self._tokenizer.piece(token, special=True)))
            if job.report.new_tokens >= max_new:
                return Finish.LENGTH
        return self._stopped(job) or Finish.STOP

    def _score(self, job: Scoring) -> Finish | BaseException:
        """The log-probability of each token but the first; every place's logits are wanted, so nothing is reused."""
        ids, decoder = list(job.request.ids), self._decoder
        decoder.in_use = 1
        decoder.cut(0, 0)
        for at in range(0, len(ids) - 1, _SCORED):
            piece = ids[at : min(at + _SCORED, len(ids) - 1)]
            logits = decoder.read(0, ids[: at + len(piece)], len(piece))
            for row, place in zip(logits, range(at, at + len(piece)), strict=True):
                job.logprobs[place] = log_softmax(checked(row[: self._tokenizer.n_vocab]))[ids[place + 1]]
            if not self._going_on(job):
                return self._stopped(job) or Finish.CANCELLED
        return Finish.STOP

    def _tell(self, job: Job, reused: int) -> None:
        job.report.reused_tokens = reused
        if reused:
            job.report.reuse_reason = "from the cache"
        elif self._decoder.follow is not None:
            job.report.reuse_reason = "this model reads every prompt whole"
        else:
            job.report.reuse_reason = "nothing in the cache begins like it"
