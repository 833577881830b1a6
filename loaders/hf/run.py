"""A request under way: its sampler, how much it may write, and the choice of each token.

It takes logits as NumPy arrays, from whichever way they were computed: the generator's batch or the pair of guided
sequences. It must not know of exllamav2 or torch.

Why the stack that all loaders share, and not exllamav2's own sampler: its settings cover about half of our knobs, in
one fixed order, and its DRY, XTC and mirostat differ in detail, so parity would be lost. And it would save nothing:
the generator copies all logits to main memory at every step in any case and samples there, on the CPU, with a softmax
over the whole vocabulary. Ours takes its place. Measured on one core of a busy machine with temperature, top_p, top_k
and repetition penalty: 0.08 ms a token at 32,000 ids, 0.14 at 128,000, 0.22 at 256,000. Were its own free of cost,
a step of 10 ms (a 7B model at 100 tokens/s) would still be at 0.98; tests/gpu/check.py measures what it really is.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from errors import Cancelled, EngineFailed, UserError
from loaders.base import Finish, Tokenizer
from loaders.job import Job, Probe
from loaders.logits import Floats, describe, guided
from loaders.sampler import Sampler


class Run:
    """One request in the engine. `over` is why it has ended, once it has."""

    def __init__(
        self, job: Job, sampler: Sampler | None, tokenizer: Tokenizer, end_ids: Iterable[int], max_new: int
    ) -> None:
        """`sampler` is None for what draws no token; `max_new` is how many tokens fit and are asked for."""
        self.job = job
        self.max_new = max_new
        self.over: Finish | BaseException | None = None
        self._sampler = sampler
        self._tokenizer = tokenizer
        self._ends = frozenset(end_ids)
        self.filler = min(self._ends, default=0)  # what the engine gets as the next token of a run that is over

    def choose(self, rows: Floats) -> int:
        """The next token from logits, shape (1, n) or, with guidance, (2, n); n may exceed the vocabulary.

        Never raises: an error ends this request and no other.
        """
        if self.over is not None:
            return self.filler
        try:
            return self._choose(rows[:, : self._tokenizer.n_vocab])
        except Cancelled:
            self.over = Finish.CANCELLED
        except UserError as error:
            self.over = error
        except Exception as error:
            self.over = EngineFailed(f"an internal error ({error!r}). The log has more.")
        return self.filler

    def _choose(self, rows: Floats) -> int:
        job = self.job
        if job.cancelled:
            self.over = Finish.CANCELLED
            return self.filler
        logits = rows[0] if len(rows) == 1 else guided(rows[0], rows[1], job.request.params.guidance_scale)
        if isinstance(job, Probe):
            job.logits = np.array(logits, np.float32)
            self.over = Finish.STOP
            return self.filler
        assert self._sampler is not None
        token = self._sampler.choose(logits, lambda: not job.cancelled)
        if token in self._ends:
            self.over = Finish.STOP
            return token
        job.put(describe(token, logits, self._tokenizer, job.request.alternatives))
        if job.report.new_tokens >= self.max_new:
            self.over = Finish.LENGTH
        return token
