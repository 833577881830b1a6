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

from errors import EngineFailed, NonFiniteLogits
from loaders.banned.guard import BanGuard, Return, allowed_mask
from loaders.banned.pattern import compile_banned_strings
from loaders.base import LogitsProcessor, Report, Request, Token, Tokenizer
from loaders.job import Job
from loaders.logits import Floats
from loaders.sampling import SamplerBuffers, SamplerChain, find_breaker_ids
from loaders.token_healing import BegunText


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

    def rewind(self, count: int) -> object:
        """Go back by this many accepted tokens."""
        ...

    def close(self) -> None: ...


class RequestSampler:
    """Chooses the tokens of one request. Must not be used by two threads at once.

    `begin`, then `outcome` until it returns a token, so that no other request waits for this one's grammar. With banned
    strings a choice may go back: then `dropped` tokens, which were returned earlier, are no longer part of the reply,
    and what is returned follows those before them.
    """

    def __init__(
        self,
        chain: SamplerChain,
        grammar: GrammarConstraint | None = None,
        processors: Sequence[LogitsProcessor] = (),
        ids: Sequence[int] = (),
        guard: BanGuard | None = None,
        begun: BegunText | None = None,
    ) -> None:
        """`processors` see `ids`, the prompt's, and all tokens chosen since."""
        self._chain = chain
        self._grammar = grammar
        self._processors = processors
        self._ids = list(ids) if processors else []
        self._guard = guard
        self._begun = begun
        self._raw: Floats | None = None  # the model's logits of the current choice
        self._logits: Floats | None = None  # the same as changed by the processors
        self._banned: frozenset[int] = frozenset()  # tokens that the current choice excludes
        self._attempt = 0  # choices that were made at this position because of banned strings
        self._free = 0  # the choice without the grammar
        self._asked: Future[bytes | None] | None = None
        #: Whether it must follow a grammar.
        self.has_grammar = grammar is not None
        #: When the grammar was last asked (monotonic, in seconds), and how many seconds its last answer took.
        self.asked_at = self.answered_in = 0.0
        #: How many tokens before the one that was returned last are no longer part of the reply.
        self.dropped = 0

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

    # --- choosing ---

    def begin(self, logits: Floats) -> int | None:
        """The next token from logits, shape (n_vocab,); None if a grammar must be asked. Raises: EngineFailed."""
        self._raw = logits
        for process in self._processors:
            logits = process(self._ids, np.array(logits, np.float32))  # a copy, so that the engine's own do not change
        self._logits = logits
        self._banned, self._attempt, self.dropped = frozenset(), 0, 0
        if self._grammar:
            self._raw = np.array(self._raw, np.float32)
            self._logits = self._raw if not self._processors else np.array(logits, np.float32)
        return self._next()

    def _next(self) -> int | None:
        """Choose until a token is accepted, or the grammar must be asked."""
        while True:
            self._free = self._draw(None)
            if self._grammar:
                # computing a mask for every token is slow: only if the free choice violates the grammar
                self.asked_at = time.monotonic()
                self._asked = self._grammar.attempt(self._free)
                self._asked.add_done_callback(partial(self._note, self.asked_at))
                return None
            if self._accepts(self._free, followed=0):
                return self._free

    def _draw(self, allowed: npt.NDArray[np.bool_] | None) -> int:
        """The chain's choice among the allowed tokens that are not banned; among all allowed ones if none is left."""
        assert self._logits is not None
        if self._begun and self._begun.left:
            allowed = self._begun.allowed() if allowed is None else allowed & self._begun.allowed()
        if self._banned:
            assert self._guard
            left = allowed_mask(len(self._logits), self._banned)
            if allowed is not None:
                left &= allowed
            try:
                if left.any():
                    return self._chain.choose(self._logits, left, self._attempt)
            except NonFiniteLogits:
                raise
            except EngineFailed:  # other bans exclude the rest
                pass
            self._guard.let_through()
            self._banned, self._attempt = frozenset(), 0
        return self._chain.choose(self._logits, allowed)

    def guess(self, logits: Floats, ahead: int) -> int:
        """What the samplers alone would choose `ahead` positions further from these logits, shape (n_vocab,): a guess,
        which changes nothing. Raises: EngineFailed.
        """
        return self._chain.guess(logits, ahead)

    def _note(self, asked_at: float, _answer: object) -> None:
        self.answered_in = time.monotonic() - asked_at

    def outcome(self, seconds: float) -> int | None:
        """The token of the choice that has begun; None if it is not known within this time. Raises: UserError."""
        assert self._grammar
        assert self._asked
        try:
            answer = self._asked.result(seconds)
        except (FutureTimeout, TimeoutError):  # the same from Python 3.11 on
            return None
        except BaseException:
            self._asked = None
            raise
        token, self._asked = self._free, None
        mask = None if answer is None else self._grammar.mask_of(answer)
        if mask is not None:
            token = self._draw(mask)
        if not self._accepts(token, followed=int(mask is None)):
            return self._next()
        if mask is not None:
            self._grammar.accept(token)
        self._logits = None
        return token

    def _accepts(self, token: int, followed: int) -> bool:
        """Advance to the next position with this token, unless a banned string demands to choose again.

        `followed`: 1 if the grammar has accepted it already.
        """
        if self._guard:
            assert self._raw is not None
            assert self._logits is not None
            if again := self._guard.offer(token, self._raw, self._logits):
                self._go_back(again, followed)
                return False
        self._chain.accept(token)
        if self._begun:
            self._begun.accept(token)
        if self._processors:
            self._ids.append(token)
        return True

    def _go_back(self, again: Return, followed: int) -> None:
        self._chain.rewind(again.dropped)
        if self._grammar and again.dropped + followed:
            self._grammar.rewind(again.dropped + followed)
        if self._begun:
            self._begun.rewind(again.dropped)
        if self._processors and again.dropped:
            del self._ids[-again.dropped :]
        self.dropped += again.dropped
        self._raw, self._logits = again.raw, again.logits
        self._banned, self._attempt = again.banned, again.attempt

    # --- what the reader gets ---

    @property
    def held(self) -> int:
        """How many returned tokens the reader does not have yet."""
        return self._guard.held if self._guard else 0

    def chosen_from(self, logits: Floats) -> Floats:
        """The logits of the token that was returned last; `logits` are those of the last step."""
        return self._raw if self._guard and self._raw is not None else logits

    def deliver(self, token: Token) -> Sequence[Token]:
        """The token that was returned last, as its reader gets it; returns those that the reader may have now."""
        if self._begun:
            token = self._begun.strip(token)
        return self._guard.note(token) if self._guard else (token,)

    def finish(self, report: Report) -> Sequence[Token]:
        """The reply has ended: the tokens that its reader still gets. What was avoided goes to the report."""
        if not self._guard:
            return ()
        left = self._guard.finish()
        report.taken_back, report.replaced = self._guard.taken_back, self._guard.replaced
        return left

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
    request, report, params = job.request, job.report, job.request.params
    try:
        chain = make_chain(request, tokenizer, end_ids, n_ctx=n_ctx, warnings=report.warnings, scratch=scratch)
        banned = compile_banned_strings(params.banned_strings, params.banned_strings_ignore_case)
    except BaseException:
        if grammar:
            grammar.close()
        raise
    report.seed = chain.seed
    guard = BanGuard(banned, tokenizer, end_ids, request.ids, report.warnings) if banned else None
    begun = BegunText(request.begun, tokenizer) if request.begun else None
    return RequestSampler(chain, grammar, request.processors, request.ids, guard, begun)
