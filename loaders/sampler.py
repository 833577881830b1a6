"""One request's choice of tokens: the sampler stack, and a grammar that it must keep to. The same for all engines.

It sees logits and token ids; it must not know where the logits come from or how a grammar is parsed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Protocol

import numpy as np
import numpy.typing as npt

from errors import Cancelled
from loaders.base import LogitsProcessor, Tokenizer
from loaders.job import Job
from loaders.logits import Floats
from loaders.sampling import SamplerChain, Scratch, breaker_ids

#: How often who waits for a grammar's answer looks whether it is still wanted, in seconds.
_LOOK = 0.1


class Grammar(Protocol):
    """A grammar and how far a reply has come in it. It is followed elsewhere: answers come later."""

    @property
    def problem(self) -> BaseException | None:
        """Why it cannot be used, as soon as that is known."""
        ...

    def ready(self, seconds: float = 0) -> bool:
        """Whether it has been read, or `problem` says why not; after waiting so long for that at most."""
        ...

    def attempt(self, token: int) -> Future[bytes | None]:
        """Go on with this token if the grammar allows it (None); else what it allows, for `mask_of`."""
        ...

    def mask_of(self, answer: bytes) -> npt.NDArray[np.bool_]:
        """For every token whether the reply may go on with it, shape (n_vocab,)."""
        ...

    def accept(self, token: int) -> object:
        """Go on with this token, which it allows."""
        ...

    def close(self) -> None: ...


class Sampler:
    """Chooses the tokens of one request. Not to be used by two threads at once.

    `begin` and then `outcome`, until it has one, where others must not wait for this request's grammar; else `choose`.
    """

    def __init__(
        self,
        chain: SamplerChain,
        grammar: Grammar | None = None,
        processors: Sequence[LogitsProcessor] = (),
        ids: Sequence[int] = (),
    ) -> None:
        """`processors` see `ids`, the prompt's, and all tokens that were chosen since."""
        self._chain = chain
        self._grammar = grammar
        self._processors = processors
        self._ids = list(ids) if processors else []
        self._logits: Floats | None = None  # what is chosen from, while the grammar is asked
        self._free = 0  # the choice without the grammar
        self._asked: Future[bytes | None] | None = None
        #: Seconds that the grammar took for its last answer.
        self.answered_in = 0.0

    @property
    def seed(self) -> int:
        """The seed in use, also when one was drawn."""
        return self._chain.seed

    @property
    def problem(self) -> BaseException | None:
        """Why no token can be chosen, if that is known already."""
        return self._grammar.problem if self._grammar else None

    def ready(self, seconds: float = 0) -> bool:
        """Whether its grammar, if it has one, has been read; after waiting so long for that at most."""
        return self._grammar is None or self._grammar.ready(seconds)

    @property
    def waits(self) -> bool:
        """Whether a choice has begun and has no outcome yet."""
        return self._asked is not None

    def begin(self, logits: Floats) -> int | None:
        """The next token from logits, shape (n_vocab,); None where a grammar has to be asked. Raises: EngineFailed."""
        for process in self._processors:
            logits = process(self._ids, np.array(logits, np.float32))  # a copy: the engine's own stay as they are
        self._free = self._chain.choose(logits)
        if not self._grammar:
            return self._chosen(self._free)
        self._logits = np.array(logits, np.float32)
        # to ask for every token is slow: only where the free choice breaks the rules
        asked_at, self._asked = time.monotonic(), self._grammar.attempt(self._free)
        self._asked.add_done_callback(lambda _: self._note(time.monotonic() - asked_at))
        return None

    def _note(self, seconds: float) -> None:
        self.answered_in = seconds

    def outcome(self, seconds: float) -> int | None:
        """The token of the choice that has begun; None where it is not known within this time. Raises: UserError."""
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

    def choose(self, logits: Floats, wanted: Callable[[], bool] = lambda: True) -> int:
        """The next token; the thread waits for the grammar, as long as it is `wanted`. Raises: UserError."""
        token = self.begin(logits)
        while token is None:
            if not wanted():
                raise Cancelled
            token = self.outcome(_LOOK)
        return token

    def _chosen(self, token: int) -> int:
        """Go on to the next place."""
        self._chain.accept(token)
        if self._processors:
            self._ids.append(token)
        return token

    def close(self) -> None:
        if self._grammar:
            self._grammar.close()


def sampler_of(
    job: Job,
    tokenizer: Tokenizer,
    end_ids: Iterable[int],
    *,
    n_ctx: int,
    grammar: Grammar | None = None,
    scratch: Scratch | None = None,
) -> Sampler:
    """The sampler of a job; its seed and what cannot be honoured go to the job's report.

    `n_ctx` stands for a range of "all". A grammar is closed with the sampler, and at once where this raises.

    Raises: InvalidInput.
    """
    request, report = job.request, job.report
    try:
        chain = SamplerChain(
            request.params,
            n_vocab=tokenizer.n_vocab,
            seed=request.params.seed,
            prompt_ids=request.ids,
            context_length=n_ctx,
            newline_ids=tokenizer.encode("\n")[-1:],
            end_ids=end_ids,
            breaker_ids=breaker_ids(request.params, tokenizer.encode),
            logit_bias=request.logit_bias,
            warnings=report.warnings,
            scratch=scratch,
        )
    except BaseException:
        if grammar:
            grammar.close()
        raise
    report.seed = chain.seed
    return Sampler(chain, grammar, request.processors, request.ids)
