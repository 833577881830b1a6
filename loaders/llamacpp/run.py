"""A request under way in the engine: its lanes, its sampler, and the choice of the next token.

A lane is a list of tokens on its way through one sequence of the cache. A request has one; with guidance (CFG) it has
a second one for the negative prompt, and both are decoded in the same batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from errors import NotNumbers
from loaders.base import Alternative, Token
from loaders.llamacpp.job import Job
from loaders.llamacpp.native import Floats
from loaders.llamacpp.sampling import Sampler
from loaders.llamacpp.sequence import Sequence
from loaders.llamacpp.tokenizer import LlamaTokenizer


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

    @property
    def ids(self) -> list[int]:
        """The tokens of prompt and reply."""
        return self.lanes[0].ids

    @property
    def size(self) -> int:
        """Cells of the cache that it takes when all of its tokens are decoded."""
        return sum(len(lane.ids) for lane in self.lanes)

    @property
    def replying(self) -> bool:
        """Whether its prompts are done but for the last token."""
        return all(lane.pending == 1 for lane in self.lanes)

    @property
    def chooses(self) -> bool:
        """Whether this step computes the logits of its next token."""
        return all(lane.row >= 0 for lane in self.lanes)

    def logits(self, of_row: Callable[[int], Floats]) -> Floats:
        """The logits to choose from, shape (n_vocab,); with guidance, both lanes' log-probabilities mixed.

        CFG: u + scale * (c - u) on log-softmaxes c and u (Sanchez et al. 2023, arXiv 2306.17806).
        """
        conditional = of_row(self.lanes[0].row)
        if len(self.lanes) == 1:
            return conditional
        c = log_softmax(conditional)
        u = log_softmax(of_row(self.lanes[1].row))
        c -= u
        c *= np.float32(self.job.request.params.guidance_scale)
        c += u
        return c

    def push(self, token: int) -> None:
        """Append the chosen token to all lanes."""
        for lane in self.lanes:
            lane.ids.append(token)


def numbers(logits: Floats) -> Floats:
    """The logits, checked. Raises: NotNumbers."""
    if np.isnan(logits).any():
        raise NotNumbers
    return logits


def log_softmax(logits: Floats) -> Floats:
    """Natural-log probabilities, shape as given, a new array."""
    shifted: Floats = logits - logits.max()
    shifted -= np.log(np.exp(shifted).sum())
    return shifted


def describe(token: int, logits: Floats, tokenizer: LlamaTokenizer, alternatives: int | None) -> Token:
    """The token as its reader gets it, with as many alternatives as were asked for (None: no log-probabilities)."""
    piece = tokenizer.piece(token, special=True)
    if alternatives is None:
        return Token(token, piece)
    logprobs = log_softmax(logits)
    count = min(alternatives, len(logprobs))
    best = np.argpartition(logprobs, -count)[-count:] if count else np.array([], np.int64)
    best = best[np.argsort(-logprobs[best], kind="stable")]
    others = tuple(Alternative(int(i), tokenizer.piece(int(i), special=True), float(logprobs[i])) for i in best)
    return Token(token, piece, float(logprobs[token]), others)
