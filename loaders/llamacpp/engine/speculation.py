"""Speculation: replies whose next tokens can be guessed have them checked in the same step.

The sampler chooses every token from its own logits with its own random numbers, as it would without a draft; a guess
only decides whether these logits are there already. It must not know how a token is chosen.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from loaders.drafting.drafted import DraftedTokens
from loaders.drafting.model_policy import ModelPolicy, StepPlan
from loaders.drafting.ngram import TRUST, NgramDrafter
from loaders.drafting.policy import LENGTHS, DraftPolicy
from loaders.job import LogitsRequest, ScoreRequest
from loaders.llamacpp.engine.batch_request import BatchRequest
from loaders.llamacpp.engine.draft_model import DraftModel
from loaders.llamacpp.engine.limits import ROWS_SCORED, EngineLimits
from loaders.llamacpp.engine.model_drafter import ModelDrafter
from loaders.llamacpp.native import LlamaContext


@dataclass(frozen=True, slots=True)
class DraftOptions:
    """Drafts of at most `longest` tokens from a draft model, and of at most `repeated` from n-grams of at least
    `shortest` tokens that stood `min_hits` times before.
    """

    longest: int = 16
    repeated: int = 48
    shortest: int = 2
    min_hits: int = 1
    model: DraftModel | None = None


class Speculation:
    """The drafts of one engine."""

    def __init__(
        self, context: LlamaContext, limits: EngineLimits, options: DraftOptions | None, ends: Container[int]
    ) -> None:
        """`options`: None if nothing is drafted unless a request asks for it. `ends`: tokens that end a reply."""
        self._context = context
        self._limits = limits
        self._options = options or DraftOptions(repeated=0)
        self._ends = ends
        self._policy = DraftPolicy(TRUST)
        self._of_model = ModelPolicy(self._policy)
        self._plan = StepPlan(0, 0, 0.0)
        self._accepted = 0  # rows of this step
        self._repeats = False  # whether this step checks drafts from n-grams

    def draft(self, runs: Sequence[BatchRequest]) -> None:
        """Before a step: guess the next tokens of the replies in it, if it decodes nothing else."""
        self._plan, self._accepted, self._repeats = StepPlan(0, 0, 0.0), 0, False
        if not self._context.can_cut:
            return
        if any(branch.pending > 1 for run in runs for branch in run.branches):
            return
        replying = [run for run in runs if run.replying and not isinstance(run.job, LogitsRequest | ScoreRequest)]
        rows = sum(len(run.branches) for run in replying)
        self._plan = StepPlan(rows, rows, float(rows))
        for run in replying:
            if not run.job.cancelled:
                run.draft = self._draft(run)

    def judge(self, run: BatchRequest, draft: DraftedTokens, accepted: int) -> None:
        """`accepted` tokens of a draft were right."""
        if draft.kinds:
            self._of_model.judge(draft.kinds, accepted)
        else:
            self._policy.judge(draft.kind, len(draft.tokens), accepted)
        self._accepted += accepted * len(run.branches)
        run.job.report.drafted_tokens += len(draft.tokens)
        run.job.report.accepted_tokens += accepted

    def note(self, rows: int, seconds: float) -> None:
        """A step in which only replies were decoded took this long."""
        if not self._plan.replies:
            return
        self._policy.note(rows, self._plan.replies, seconds, self._accepted, self._plan.seconds)
        if self._plan.seconds:
            if not self._repeats:  # what those of another reply have gained is none of the model's
                self._of_model.note_gain(self._plan, self._accepted)
        else:
            self._of_model.forget()

    def release(self, run: BatchRequest) -> None:
        """A request gives up its place, or has ended."""
        run.draft = None
        if run.model_drafter:
            run.model_drafter.close()
            run.model_drafter = None

    def forget(self, label: str) -> None:
        """The draft model, too, forgets what it has read for this label."""
        if self._options.model:
            self._options.model.forget(label)

    def _draft(self, run: BatchRequest) -> DraftedTokens | None:
        """A draft that is expected to pay."""
        branches, rows = len(run.branches), self._plan.rows
        left = run.job.request.max_tokens - run.job.report.new_tokens - run.sampler.held - 1
        room = min(
            (self._limits.tokens - rows) // branches,
            (ROWS_SCORED - rows) // branches,
            self._context.n_ctx - max(len(branch.ids) for branch in run.branches) - 1,
            left,
        )
        model = self._options.model
        of_model = min(room, self._options.longest, model.n_ctx - len(run.ids) - 1) if model else 0
        # what the draft model would gain instead
        instead = self._of_model.gain if of_model > 0 and run.model_drafter and run.model_drafter.ready else 1.0
        return self._by_ngrams(run, room, instead) or self._by_model(run, of_model, left)

    def _by_ngrams(self, run: BatchRequest, room: int, worth: float) -> DraftedTokens | None:
        """A draft that gains at least the factor `worth`."""
        options, branches = self._options, len(run.branches)
        asked = run.job.request.params.prompt_lookup_num_tokens
        room = min(room, asked or options.repeated)
        if room < 1:
            return None
        if run.drafter is None:
            run.drafter = NgramDrafter(options.shortest, options.min_hits)
        draft = run.drafter.propose(run.ids, room)
        if draft is None:
            return None
        lengths = sorted({min(length, len(draft.tokens)) for length in LENGTHS})
        length = self._policy.length(draft.kind, lengths, self._plan.rows, branches, worth)
        if not length:
            return None
        self._repeats = True
        for at in range(length):
            self._plan.add(branches, self._policy.chance(draft.kind) ** (at + 1))
        return DraftedTokens(draft.tokens[:length], draft.kind)

    def _by_model(self, run: BatchRequest, room: int, left: int) -> DraftedTokens | None:
        model = self._options.model
        if model is None or room < 1:
            return None
        if run.model_drafter is None:
            slot = model.take(run.ids, run.job.request.label)
            if slot is None:
                return None
            run.model_drafter = ModelDrafter(model, slot, self._of_model, run.sampler.guess, self._ends)
        drafter = run.model_drafter
        if not drafter.read(run.ids, self._plan, run.job.report.new_tokens, left):
            return None
        return drafter.propose(run.ids, room, self._plan, len(run.branches))
