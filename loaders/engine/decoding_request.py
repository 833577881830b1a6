"""A request in progress whose token is chosen as soon as its logits are available, and its length limit.

It takes logits as NumPy arrays, however they were computed: by a generator's batch or by its own steps. It must not
know of exllamav2 or torch.

Why it uses the shared sampler chain instead of exllamav2's own sampler: that supports about half of our knobs, in one
fixed order, and its DRY, XTC and mirostat differ in detail, so results would differ between loaders. It would also save
nothing: the generator copies all logits to main memory at every step in any case and samples there, on the CPU, with a
softmax over the whole vocabulary. Our chain replaces that. Measured on one core of a busy machine with temperature,
top_p, top_k and repetition penalty: 0.08 ms per token at 32,000 ids, 0.14 at 128,000, 0.22 at 256,000. Even if
exllamav2's own sampling took no time, a step of 10 ms (a 7B model at 100 tokens/s) would still be at 0.98 of its speed;
tests/gpu/check.py measures the real value.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

import numpy as np

from errors import EngineFailed, UserError
from loaders.base import Finish, Tokenizer
from loaders.engine.active_request import ActiveRequest
from loaders.job import Job, LogitsRequest
from loaders.logits import Floats, apply_cfg, make_token
from loaders.sampler import RequestSampler

_NO_MORE = object()


class DecodingRequest(ActiveRequest):
    """One request in the engine. `over` is the reason why it has ended."""

    def __init__(
        self, job: Job, sampler: RequestSampler | None, tokenizer: Tokenizer, end_ids: Iterable[int], max_new: int
    ) -> None:
        """Whether other requests were computed between its last step and the next."""
        super().__init__(job, sampler)
        self.max_new = max_new
        self.over: Finish | BaseException | None = None
        #: What computes it, one step at a time, where it is computed alone. It has ended where this ends.
        self.steps: Iterator[None] | None = None
        #: Whether others were computed between its last step and the next.
        self.moved = False
        self._tokenizer = tokenizer
        self._ends = frozenset(end_ids)
        #: The token chosen last; if there is none, a filler, because an engine may need one for a request that has
        #: ended.
        self.token = self._filler = min(self._ends, default=0)
        #: How many earlier tokens are no longer part of the reply: `token` follows those before them.
        self.dropped = 0
        self._held: Floats | None = None  # the logits of the next token, while its grammar is computing

    # --- its steps ---

    def advance(self) -> None:
        """Run the next of its steps. A UserError ends the request; any other error is raised."""
        assert self.steps is not None
        try:
            if next(self.steps, _NO_MORE) is _NO_MORE and self.over is None:
                self.over = Finish.STOP
        except UserError as error:
            self.over = error

    def close(self) -> None:
        """End it: no more of its steps are run."""
        super().close()
        if isinstance(self.steps, Generator):
            self.steps.close()

    # --- its tokens ---

    def choose(self, rows: Floats) -> int:
        """As `begin`, for a request without a grammar: the token."""
        self.begin(rows)
        return self.token

    def begin(self, rows: Floats) -> None:
        """Choose `token` from logits, shape (1, n) or, with guidance, (2, n); n may exceed the vocabulary.

        If its grammar must be asked, the request `waits` until `resume` has the token. Never raises: an error ends only
        this request.
        """
        self.token, self.dropped = self._filler, 0
        if self.over is not None:
            return
        try:
            self._begin(rows[:, : self._tokenizer.n_vocab])
        except UserError as error:
            self.over = error
        except Exception as error:
            self.over = EngineFailed(f"internal error ({error!r}). See the log for details.")

    def _begin(self, rows: Floats) -> None:
        job = self.job
        if job.cancelled:
            self.over = Finish.CANCELLED
            return
        logits = rows[0] if len(rows) == 1 else apply_cfg(rows[0], rows[1], job.request.params.guidance_scale)
        if isinstance(job, LogitsRequest):
            job.logits = np.array(logits, np.float32)
            self.over = Finish.STOP
            return
        assert self.sampler is not None
        token = self.sampler.begin(logits)
        if token is None:
            self._held = logits
        else:
            self._take(token, logits)

    def resume(self, seconds: float) -> None:
        """Take the token that its grammar allows, if it answers within this time. Raises: UserError."""
        assert self.sampler is not None
        if self._held is not None and (token := self.sampler.outcome(seconds)) is not None:
            logits, self._held = self._held, None
            self._take(token, logits)

    def _take(self, token: int, logits: Floats) -> None:
        assert self.sampler is not None
        self.token, self.dropped = token, self.sampler.dropped
        if token in self._ends:
            self.over = Finish.STOP
            return
        logits = self.sampler.chosen_from(logits)
        made = make_token(token, logits, self._tokenizer, self.job.request.alternatives)
        for each in self.sampler.deliver(made):
            self.job.put(each)
        if self.job.report.new_tokens + self.sampler.held >= self.max_new:
            self.over = Finish.LENGTH

    def note_reuse(self, tokens: int, otherwise: str = "the cache contains no matching prefix") -> None:
        """Record how many tokens of its prompt were already in the cache; `otherwise` is the reason if there are
        none.
        """
        self.job.report.reused_tokens = tokens
        self.job.report.reuse_reason = "from the cache" if tokens else otherwise
