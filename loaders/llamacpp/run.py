"""A request under way in the engine: its lanes, its sampler, and the choice of the next token.

A lane is a list of tokens on its way through one sequence of the cache. A request has one; with guidance (CFG) it has
a second one for the negative prompt, and both are decoded in the same batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from loaders.job import Job
from loaders.llamacpp.sequence import Sequence
from loaders.logits import Floats, guided
from loaders.sampler import Sampler


@dataclass(slots=True, eq=False)
class Lane:
    """Tokens and the sequence that holds the first of them; the rest is still to be decoded.

    A lane without a sequence was sent back for want of room.
    """

    ids: list[int]
    sequence: Sequence | None = None
    added: int = 0  # tokens of it in the batch of this step
    row: int = -1  # where the batch of this step has its logits; -1: it asked for none

    @property
    def pending(self) -> int:
        """Tokens that are still to be decoded."""
        return len(self.ids) - (len(self.sequence.ids) if self.sequence else 0)


@dataclass(slots=True, eq=False)
class Run:
    """A request under way."""

    job: Job
    sampler: Sampler
    lanes: list[Lane] = field(default_factory=list)
    turn: int = 0  # tokens since it got its sequences
    held: Floats | None = None  # the logits of the next token, while its grammar is asked
    held_since: float = 0.0  # monotonic seconds

    @property
    def ids(self) -> list[int]:
        """The tokens of prompt and reply."""
        return self.lanes[0].ids

    @property
    def size(self) -> int:
        """Cells of the cache that it takes when all of its tokens are decoded."""
        return sum(len(lane.ids) for lane in self.lanes)

    def answers_within(self, seconds: float) -> bool:
        """Whether its grammar can be expected to: its last answer came in that time, and this one is not overdue."""
        return self.sampler.answered_in <= seconds and time.monotonic() - self.held_since <= seconds

    @property
    def replying(self) -> bool:
        """Whether its prompts are done but for the last token."""
        return all(lane.pending == 1 for lane in self.lanes)

    @property
    def chooses(self) -> bool:
        """Whether this step computes the logits of its next token."""
        return all(lane.row >= 0 for lane in self.lanes)

    def logits(self, of_row: Callable[[int], Floats]) -> Floats:
        """The logits to choose from, shape (n_vocab,); with guidance, those of both lanes mixed."""
        conditional = of_row(self.lanes[0].row)
        if len(self.lanes) == 1:
            return conditional
        return guided(conditional, of_row(self.lanes[1].row), self.job.request.params.guidance_scale)

    def push(self, token: int) -> None:
        """Append the chosen token to all lanes."""
        for lane in self.lanes:
            lane.ids.append(token)
