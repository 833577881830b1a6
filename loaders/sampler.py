"""Chooses the tokens of one request: the sampler chain, and an optional grammar. The same for all engines.

It sees logits and token ids; it must not know where the logits come from or how a grammar is parsed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from loaders.base import LogitsProcessor, Request, Tokenizer
from loaders.job import Job
from loaders.logits import Floats
from loaders.sampling import SamplerBuffers, SamplerChain, find_breaker_ids


class GrammarConstraint(Protocol):
    """A grammar and a reply's position in it. It is matched in another thread or process: answers arrive later."""

    @property
    def problem(self) -> BaseException | None:
        """Why it cannot be used, as soon as that is known."""
        ...

    def ready(self, seconds: float = 0) -> bool:
        """Whether it has been parsed or has a `problem`; waits at most this long."""
        ...

    def attempt(self, token: int) -> Future[bytes | None]:
        """Accept this token if the grammar allows it (None); otherwise return what it allows, for `mask_of`."""
        ...

    def mask_of(self, answer: bytes) -> npt.NDArray[np.bool_]:
        """For every token whether the reply may continue with it, shape (n_vocab,)."""
        ...

    def accept(self, token: int) -> object:
        """Accept this token, which is allowed."""
        ...

    def close(self) -> None: ...


class RequestSampler:
    """Chooses the tokens of one request. Must not be used by two threads at once.

    `begin`, then `outcome` until it returns a token, so that no other request waits for this one's grammar.
    """

    def __init__(
        self,
        chain: SamplerChain,
        grammar: GrammarConstraint | None = None,
        processors: Sequence[LogitsProcessor] = (),
        ids: Sequence[int] = (),
    ) -> None:
        """`processors` see `ids`, the prompt's, and all tokens chosen since."""
        self._chain = chain
        self._grammar = grammar
        self._processors = processors
        self._ids = list(ids) if processors else []
        self._logits: Floats | None = None  # the logits of the current choice, while the grammar is computing
        self._free = 0  # the choice without the grammar
        self._asked: Future[bytes | None] | None = None
        #: Whether it must follow a grammar.
        self.has_grammar = grammar is not None
        #: When the grammar was last asked (monotonic, in seconds), and how many seconds its last answer took.
        self.asked_at = self.answered_in = 0.0

    @property
    def seed(self) -> int:
        """The seed in use, also if it was random."""
        return self._chain.seed

    @property
    def problem(self) -> BaseException | None:
        """Why no token can be chosen, if that is known already."""
        return self._grammar.problem if self._grammar else None

    def ready(self, seconds: float = 0) -> bool:
        """Whether its grammar, if it has one, has been parsed; waits at most this long."""
        return self._grammar is None or self._grammar.ready(seconds)

    @property
    def waits(self) -> bool:
        """Whether a choice has begun and has no result yet."""
        return self._asked is not None

    def answers_within(self, seconds: float) -> bool:
        """Whether its grammar is expected to answer in this time: its last answer did, and this one is not overdue."""
        return self.answered_in <= seconds and time.monotonic() - self.asked_at <= seconds

    def begin(self, logits: Floats) -> int | None:
        """The next token from logits, shape (n_vocab,); None if a grammar must be asked. Raises: EngineFailed."""
        for process in self._processors:
            logits = process(self._ids, np.array(logits, np.float32))  # a copy, so that the engine's own do not change
        self._free = self._chain.choose(logits)
        if not self._grammar:
            return self._chosen(self._free)
        self._logits = np.array(logits, np.float32)
        # computing a mask for every token is slow: only if the free choice violates the grammar
        self.asked_at = time.monotonic()
        self._asked = self._grammar.attempt(self._free)
        self._asked.add_done_callback(partial(self._note, self.asked_at))
        return None

    def _note(self, asked_at: float, _answer: object) -> None:
        self.answered_in = time.monotonic() - asked_at

    def outcome(self, seconds: float) -> int | None:
        """The token of the choice that has begun; None if it is not known within this time. Raises: UserError."""
        assert self._grammar
        assert self._asked
        assert self._logits is not None
        try:
            answer = self._asked.result(seconds)
        except (FutureTimeout, TimeoutError):  # the same from Python 3.11 on
            return None
        except BaseException:
            self._asked = None
            raise
        token, self._asked = self._free, None
        if answer is not None:
            token = self._chain.choose(self._logits, self._grammar.mask_of(answer))
            self._grammar.accept(token)
        self._logits = None
        return self._chosen(token)

    def _chosen(self, token: int) -> int:
        """Advance to the next position."""
        self._chain.accept(token)
        if self._processors:
            self._ids.append(token)
        return token

    def close(self) -> None:
        if self._grammar:
            self._grammar.close()


def make_chain(
    request: Request,
    tokenizer: Tokenizer,
    end_ids: Iterable[int],
    *,
    n_ctx: int,
    warnings: list[str] | None = None,
    scratch: SamplerBuffers | None = None,
) -> SamplerChain:
    """The sampler chain of a request, in the user's order. `n_ctx` replaces a range of "all".

    What cannot be honoured goes to `warnings`. Raises: InvalidInput.
    """
    return SamplerChain(
        request.params,
        n_vocab=tokenizer.n_vocab,
        seed=request.params.seed,
        prompt_ids=request.ids,
        context_length=n_ctx,
        newline_ids=tokenizer.encode("\n")[-1:],
        end_ids=end_ids,
        breaker_ids=find_breaker_ids(request.params, tokenizer.encode),
        logit_bias=request.logit_bias,
        warnings=warnings,
        scratch=scratch,
    )


def make_sampler(
    job: Job,
    tokenizer: Tokenizer,
    end_ids: Iterable[int],
    *,
    n_ctx: int,
    grammar: GrammarConstraint | None = None,
    scratch: SamplerBuffers | None = None,
) -> RequestSampler:
    """The sampler of a job; its seed and what cannot be honoured go to the job's report.

    `n_ctx` replaces a range of "all". A grammar is closed with the sampler, and at once if this raises. Raises:
    InvalidInput.
    """
    request, report = job.request, job.report
    try:
        chain = make_chain(request, tokenizer, end_ids, n_ctx=n_ctx, warnings=report.warnings, scratch=scratch)
    except BaseException:
        if grammar:
            grammar.close()
        raise
    report.seed = chain.seed
    return RequestSampler(chain, grammar, request.processors, request.ids)
