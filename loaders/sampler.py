"""One request's choice of tokens: the sampler stack, and a grammar that it must keep to. The same for all engines.

It sees logits and token ids; it must not know where the logits come from or how a grammar is parsed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from loaders.base import LogitsProcessor, Tokenizer
from loaders.job import Job
from loaders.logits import Floats
from loaders.sampling import SamplerChain, Scratch, breaker_ids


class Grammar(Protocol):
    """A grammar and how far a reply has come in it."""

    def allows(self, token: int) -> bool:
        """Whether the reply may go on with this token."""
        ...

    def allowed(self) -> npt.NDArray[np.bool_]:
        """For every token whether the reply may go on with it, shape (n_vocab,)."""
        ...

    def accept(self, token: int) -> None: ...

    def close(self) -> None: ...


class Sampler:
    """Chooses the tokens of one request. Not to be used by two threads at once."""

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

    @property
    def seed(self) -> int:
        """The seed in use, also when one was drawn."""
        return self._chain.seed

    def choose(self, logits: Floats) -> int:
        """Choose the next token from logits, shape (n_vocab,), and go on. Raises: EngineFailed."""
        for process in self._processors:
            logits = process(self._ids, np.array(logits, np.float32))  # a copy: the engine's own stay as they are
        token = self._chain.choose(logits)
        if self._grammar:
            if not self._grammar.allows(token):
                # to ask for every token is slow: only where the free choice broke the rules
                token = self._chain.choose(logits, self._grammar.allowed())
            self._grammar.accept(token)
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
