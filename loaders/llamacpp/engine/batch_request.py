"""A request in progress in the engine: its branches, its sampler, and the choice of the next token.

A branch is a list of tokens in one sequence of the cache. A request has one; with guidance (CFG) it has a second one
for the negative prompt, and both are decoded in the same batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from loaders.drafting.drafted import DraftedTokens
from loaders.drafting.ngram import NgramDrafter
from loaders.engine.active_request import ActiveRequest
from loaders.llamacpp.engine.fallback_state import FallbackState
from loaders.llamacpp.engine.model_drafter import ModelDrafter
from loaders.llamacpp.engine.sequence_slot import SequenceSlot
from loaders.logits import Floats, apply_cfg
from loaders.sampler import RequestSampler


@dataclass(slots=True, eq=False)
class Branch:
    """Tokens and the sequence that holds the first of them; the rest must still be decoded.

    A branch without a sequence was sent back because there was no room.
    """

    ids: list[int]
    sequence: SequenceSlot | None = None
    added: int = 0  # its tokens in the batch of this step
    row: int = -1  # the row of its logits in the batch of this step; -1: none requested
    places: list[int] = field(default_factory=list)  # lengths at which its state is kept, ascending

    def next_stop(self, count: int) -> int:
        """How many of the next `count` tokens may be read in one step: none beyond a place where its state is kept."""
        done = len(self.sequence.ids) if self.sequence else 0
        return min([count, *(place - done for place in self.places if place > done)])

    @property
    def pending(self) -> int:
        """Tokens that are still to be decoded."""
        return len(self.ids) - (len(self.sequence.ids) if self.sequence else 0)


@dataclass(slots=True, eq=False)
class BatchRequest(ActiveRequest):
    """A request with its place in the batch."""

    sampler: RequestSampler
    branches: list[Branch] = field(default_factory=list)
    held: Floats | None = None  # the logits of the next token, while its grammar is computing
    drafter: NgramDrafter | None = None
    model_drafter: ModelDrafter | None = None
    draft: DraftedTokens | None = None  # guessed tokens that this step checks
    fallback: FallbackState | None = None  # a state to go back to, while tokens are held back

    @property
    def ids(self) -> list[int]:
        """The tokens of prompt and reply."""
        return self.branches[0].ids

    @property
    def size(self) -> int:
        """Cells of the cache that it needs when all of its tokens are decoded."""
        return sum(len(branch.ids) for branch in self.branches)

    @property
    def replying(self) -> bool:
        """Whether its prompts are decoded except for the last token."""
        return all(branch.pending == 1 for branch in self.branches)

    @property
    def chooses(self) -> bool:
        """Whether this step computes the logits of its next token."""
        return all(branch.row >= 0 for branch in self.branches)

    def logits(self, of_row: Callable[[int], Floats], back: int = 0) -> Floats:
        """The logits to choose from, shape (n_vocab,); with guidance, those of both branches mixed.

        `back`: those of the row this many before the last.
        """
        conditional = of_row(self.branches[0].row - back)
        if len(self.branches) == 1:
            return conditional
        return apply_cfg(conditional, of_row(self.branches[1].row - back), self.job.request.params.guidance_scale)

    def push(self, token: int) -> None:
        """Append the chosen token to all branches."""
        for branch in self.branches:
            branch.ids.append(token)
