"""The engine over a decoder: requests are answered one at a time, in the order in which they arrived.

What a request has read stays in the decoder's branches: the next request only reads the rest, as does guidance's
negative prompt. It handles token ids and Jobs; it must not know about text, torch or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from errors import UserError
from loaders.base import Finish, Token, Tokenizer
from loaders.engine.decoding_request import DecodingRequest
from loaders.engine.engine import Engine
from loaders.grammar.matcher import GrammarEngine
from loaders.hf_common.decoder import Decoder
from loaders.hf_common.prompt_lookup import PromptLookup
from loaders.job import Job, LogitsRequest, ScoreRequest
from loaders.logits import Floats, log_softmax, require_finite
from loaders.params import SamplingParams
from loaders.prefix import common_prefix
from loaders.sampler import make_sampler
from loaders.sampling import SamplerBuffers

#: Tokens that a yielding request reads in one step: others wait no longer than that.
_YIELDING_PIECE = 32
#: Rows of logits per step while scoring.
_SCORED = 128


class SearchStrategy(Protocol):
    """Ways to generate a reply other than sampling token by token: beam search, contrastive search."""

    def wants(self, params: SamplingParams) -> bool: ...

    def run(self, job: Job, max_new: int, go_on: Callable[[], bool]) -> Iterator[int]:
        """The reply's tokens, without the end token; it ends when `go_on` returns False. Raises: UserError."""
        ...


class SequentialEngine(Engine[DecodingRequest]):
    """One request at a time, each as a generator of steps."""

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        end_ids: frozenset[int],
        *,
        name: str,
        grammars: GrammarEngine | None = None,
        search: SearchStrategy | None = None,
        explain: Callable[[Exception], UserError | None] = lambda _: None,
    ) -> None:
        """`explain` converts a backend's known errors into ours."""
        super().__init__(name, 1, grammars)
        self._decoder = decoder
        self._tokenizer = tokenizer
        self._ends = end_ids
        self._search = search
        self._explain_error = explain
        self._scratch = SamplerBuffers(tokenizer.n_vocab)
        self._thread.start()

    # --- places ---

    def _prepare(self, job: Job) -> DecodingRequest:
        params = job.request.params
        max_new = min(job.request.max_tokens, self._decoder.room([len(ids) for ids in job.prompts]))
        sampler = None
        if not isinstance(job, LogitsRequest | ScoreRequest) and not self._searches(job):
            sampler = make_sampler(
                job,
                self._tokenizer,
                self._ends,
                n_ctx=self._decoder.n_ctx,
                grammar=self._grammars.of(params) if self._grammars else None,
                scratch=self._scratch,
            )
        return DecodingRequest(job, sampler, self._tokenizer, self._ends, max_new)

    def _searches(self, job: Job) -> bool:
        return self._search is not None and self._search.wants(job.request.params)

    def _place(self, run: DecodingRequest) -> None:
        run.job.start()
        if run.steps is not None:  # it gave up its place while its grammar was slow
            run.moved = True
        elif isinstance(run.job, ScoreRequest):
            run.steps = self._score(run.job)
        elif not isinstance(run.job, LogitsRequest) and self._searches(run.job):
            run.steps = self._searched(run)
        else:
            run.steps = self._decode(run)

    def _release(self, run: DecodingRequest) -> None:
        """What it has read is kept for the next request."""

    def _refuses(self, job: Job) -> str:
        """There is one cache: only a text that continues what it holds leaves that as it was."""
        decoder, held = self._decoder, self._decoder.cached_ids(0)
        if decoder.follow is not None or not decoder.cuts:
            return "this model's cache cannot go back, should another text follow"
        if len(job.prompts) > 1 or self._searches(job):
            return "guidance and searches use more than one cache"
        if common_prefix(held, list(job.request.ids)) < len(held):
            return "this loader has one cache, and another text in it would be lost"
        return ""

    def _held(self, run: DecodingRequest) -> int:
        return common_prefix(self._decoder.cached_ids(0), list(run.job.request.ids))

    def _continue(self, run: DecodingRequest, seconds: float) -> None:
        run.resume(seconds)
        if run.over is not None:
            self._end(run, run.over)

    def _forget(self) -> None:
        self._decoder.clear()

    def _explain(self, error: BaseException) -> UserError | None:
        return self._explain_error(error) if isinstance(error, Exception) else None

    # --- one step ---

    def _step(self) -> bool:
        if not self._runs or self._runs[0].waits:
            return False
        run = self._runs[0]
        run.advance()
        if run.over is not None:
            self._end(run, run.over)
        return True

    def _going_on(self, job: Job) -> bool:
        """In the middle of a step, possibly from another thread: whether to continue computing for this request.

        Also removes cancelled requests from the queue.
        """
        for waiting in self._queue.take_cancelled():
            self._end(waiting, Finish.CANCELLED)
        return self._stopped(job) is None

    def _stopped(self, job: Job) -> Finish | BaseException | None:
        """Why this request must not be continued, if there is a reason."""
        return Finish.CANCELLED if job.cancelled or self._in_the_way(job) else self._queue.closed

    def _decode(self, run: DecodingRequest) -> Iterator[None]:
        """Read the prompts, then generate one token after the other."""
        decoder = self._decoder
        texts = [list(ids) for ids in run.job.prompts]
        self._note_reuse(run, decoder.reuse_prefix(0, texts[0]))
        logits = self._read(run, texts)
        lookup = run.job.request.params.prompt_lookup_num_tokens if len(texts) == 1 else 0
        repeats, guessed = PromptLookup(), list[int]()
        while run.over is None:
            for place in range(len(guessed) + 1):
                run.begin(logits[place : place + 1] if guessed else logits)
                while run.waits:
                    yield
                if run.over is not None:
                    return
                for ids in texts:
                    del ids[len(ids) - run.dropped :]
                    ids.append(run.token)
                if run.dropped or (place < len(guessed) and run.token != guessed[place]):
                    break
            if run.dropped:
                repeats = PromptLookup()
                for branch, ids in enumerate(texts):
                    decoder.truncate(branch, len(ids) - 1)
            yield
            if run.moved:
                run.moved, guessed = False, []
                logits = self._read(run, texts)
                continue
            if guessed and not decoder.truncate(0, len(texts[0]) - 1):
                lookup = 0  # if each draft needs the whole text to be read again, it is slower than without
            room = min(lookup, decoder.n_ctx - len(texts[0]))
            guessed = repeats.propose(texts[0], room) if room > 0 else []
            if guessed:
                logits = decoder.read(0, [*texts[0], *guessed], 1 + len(guessed))
            elif len(texts) == 1:
                logits = decoder.step(0, texts[0])
            else:
                logits = np.concatenate([decoder.step(branch, ids) for branch, ids in enumerate(texts)])

    def _read(self, run: DecodingRequest, texts: Sequence[Sequence[int]]) -> Floats:
        """The logits after each of these texts, one row per text; if it is stopped, the request has ended."""
        self._decoder.in_use = len(texts)
        rows = list[Floats]()
        for branch, ids in enumerate(texts):
            piece = _YIELDING_PIECE if run.job.request.yields else None
            rows.append(self._decoder.read(branch, ids, go_on=lambda: self._going_on(run.job), piece=piece))
            if not len(rows[-1]):
                run.over = self._stopped(run.job) or Finish.CANCELLED
                break
        return np.concatenate(rows)

    def _searched(self, run: DecodingRequest) -> Iterator[None]:
        """A reply by a search method: token by token, or all at once when the search is over."""
        assert self._search
        job = run.job
        if job.request.alternatives is not None:
            job.report.warnings.append("Beam and contrastive search do not return log-probabilities.")
        if job.request.params.banned_strings.strip():
            job.report.warnings.append("Banned strings have no effect with beam or contrastive search.")
        if job.request.processors:
            job.report.warnings.append("Extensions that change logits have no effect with beam or contrastive search.")
        for token in self._search.run(job, run.max_new, lambda: self._going_on(job)):
            if not self._going_on(job):
                break
            if token in self._ends:
                return
            job.put(Token(token, self._tokenizer.piece(token, special=True)))
            if job.report.new_tokens >= run.max_new:
                run.over = Finish.LENGTH
                return
            yield
        run.over = self._stopped(job) or Finish.STOP

    def _score(self, job: ScoreRequest) -> Iterator[None]:
        """The log-probability of each token but the first; the logits of every position are needed, so nothing is
        reused.
        """
        ids, decoder = list(job.request.ids), self._decoder
        decoder.in_use = 1
        decoder.truncate(0, 0)
        for at in range(0, len(ids) - 1, _SCORED):
            piece = ids[at : min(at + _SCORED, len(ids) - 1)]
            logits = decoder.read(0, ids[: at + len(piece)], len(piece))
            for row, place in zip(logits, range(at, at + len(piece)), strict=True):
                job.logprobs[place] = log_softmax(require_finite(row[: self._tokenizer.n_vocab]))[ids[place + 1]]
            yield

    def _note_reuse(self, run: DecodingRequest, reused: int) -> None:
        if self._decoder.follow is not None:
            run.note_reuse(reused, "this model must process every prompt from the start")
        else:
            run.note_reuse(reused)
