"""Speculation: replies whose next tokens can be guessed have them checked in the same step.

The sampler chooses every token from its own logits with its own random numbers, as it would without a draft; a guess
only decides whether these logits are there already. It must not know how a token is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loaders.drafting.ngram import SIZES, DraftedTokens, NgramDrafter
from loaders.drafting.policy import LENGTHS, DraftPolicy
from loaders.job import LogitsRequest, ScoreRequest
from loaders.llamacpp.engine.batch_request import BatchRequest
from loaders.llamacpp.engine.limits import ROWS_SCORED, EngineLimits
from loaders.llamacpp.native import LlamaContext


@dataclass(frozen=True, slots=True)
class DraftOptions:
    """Drafts of at most `longest` tokens, from n-grams of at least `shortest` that stood `min_hits` times before."""

    longest: int = 16
    shortest: int = 2
    min_hits: int = 1


class Speculation:
    """The drafts of one engine."""

    def __init__(self, context: LlamaContext, limits: EngineLimits, options: DraftOptions | None) -> None:
        """`options`: None if nothing is drafted unless a request asks for it."""
        self._context = context
        self._limits = limits
        self._options = options
        self._policy = DraftPolicy(len(SIZES) + 1)
        self._replies = self._accepted = 0  # of this step

    def draft(self, runs: Sequence[BatchRequest]) -> None:
        """Before a step: guess the next tokens of the replies in it, if it decodes nothing else."""
        self._replies = self._accepted = 0
        if not self._context.can_cut:
            return
        if any(branch.pending > 1 for run in runs for branch in run.branches):
            return
        replying = [run for run in runs if run.replying and not isinstance(run.job, LogitsRequest | ScoreRequest)]
        self._replies = rows = sum(len(run.branches) for run in replying)
        for run in replying:
            run.draft = self._draft(run, rows)
            if run.draft:
                rows += len(run.draft.tokens) * len(run.branches)

    def judge(self, run: BatchRequest, draft: DraftedTokens, accepted: int) -> None:
        """`accepted` tokens of a draft were right."""
        self._policy.judge(draft.kind, len(draft.tokens), accepted)
        self._accepted += accepted * len(run.branches)
        run.job.report.drafted_tokens += len(draft.tokens)
        run.job.report.accepted_tokens += accepted

    def note(self, rows: int, seconds: float) -> None:
        """A step in which only replies were decoded took this long."""
        if self._replies:
            self._policy.note(rows, self._replies, seconds, self._accepted)

    def _draft(self, run: BatchRequest, rows: int) -> DraftedTokens | None:
        """A draft that is expected to pay, in a step of `rows` rows without it."""
        most = self._longest(run)
        branches = len(run.branches)
        room = min(
            most,
            (self._limits.tokens - rows) // branches,
            (ROWS_SCORED - rows) // branches,
            self._context.n_ctx - max(len(branch.ids) for branch in run.branches) - 1,
            run.job.request.max_tokens - run.job.report.new_tokens - run.sampler.held - 1,
        )
        if room < 1:
            return None
        if run.drafter is None:
            options = self._options or DraftOptions()
            run.drafter = NgramDrafter(options.shortest, options.min_hits)
        draft = run.drafter.propose(run.ids, room)
        if draft is None:
            return None
        lengths = sorted({min(length, len(draft.tokens)) for length in LENGTHS})
        length = self._policy.length(draft.kind, lengths, rows, branches)
        return DraftedTokens(draft.tokens[:length], draft.kind) if length else None

    def _longest(self, run: BatchRequest) -> int:
        asked = run.job.request.params.prompt_lookup_num_tokens
        return asked or (self._options.longest if self._options else 0)
