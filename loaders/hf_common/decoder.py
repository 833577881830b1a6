"""The interface of a backend to the HF loaders' engine: computes logits from tokens and caches what it has read.

Branch 0 holds the prompt, branch 1 the negative prompt of guidance; a backend for beam search has more. It must not
know of requests, sampling or text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from loaders.logits import Floats
from loaders.prefix import common_prefix


class DecodingStopped(Exception):
    """The computation was cancelled: `go_on` returned False."""


class Decoder(ABC):
    """Caches with their tokens. Used by one thread at a time."""

    n_ctx: int
    n_vocab: int
    branches: int = 2
    piece: int = 512  # the most tokens of one forward pass
    follow: int | None = None  # the most tokens that one forward pass may add to a non-empty branch; None: any number
    cells: int | None = None  # tokens that all branches have room for together, if they share it
    cuts: bool = True  # whether a branch can be truncated
    in_use: int = 1  # branches that are being read into: the others may be emptied if there is not enough room

    def __init__(self) -> None:
        self._held: dict[int, list[int]] = {}
        self._go_on: Callable[[], bool] | None = None  # whether the current reading should continue

    def room(self, lengths: Sequence[int]) -> int:
        """How many tokens can follow prompts of these lengths, one per branch, on all branches alike."""
        alone = self.n_ctx - max(lengths)
        return alone if self.cells is None else min(alone, (self.cells - sum(lengths)) // len(lengths))

    def cached_ids(self, branch: int) -> list[int]:
        """The tokens in this branch's cache."""
        return self._held.setdefault(branch, [])

    def read(
        self,
        branch: int,
        ids: Sequence[int],
        keep: int = 1,
        go_on: Callable[[], bool] | None = None,
        piece: int | None = None,
    ) -> Floats:
        """The logits after the last `keep` of these tokens, shape (keep, n_vocab), float32.

        What the branch already holds is not computed again: `reuse_prefix` returns how much that is. `go_on` is called
        between two chunks, and while one is computed if the backend can stop that, in any thread; if it returns False,
        the chunks that were read stay, and the shape is (0, n_vocab). With `follow` there is one chunk: the whole text.
        `piece`: the most tokens of a chunk, if fewer than usual.
        """
        there = self.reuse_prefix(branch, ids, keep)
        first = len(ids) - keep
        while True:
            end = len(ids) if self.follow is not None else min(there + (piece or self.piece), len(ids))
            if first < end < len(ids):  # all required rows come from one forward pass
                end = first if there < first else len(ids)
            self._go_on = go_on
            try:
                logits = self.forward(branch, ids[there:end], keep if end == len(ids) else 0)
            except DecodingStopped:
                if not self._truncate(branch, there):
                    self._empty(branch)
                    self.cached_ids(branch).clear()
                return np.zeros((0, self.n_vocab), np.float32)
            finally:
                self._go_on = None
            there = end
            if there == len(ids):
                return logits
            if go_on and not go_on():
                return logits[:0]

    def step(self, branch: int, ids: Sequence[int]) -> Floats:
        """The logits after these tokens, of which the branch holds all but the last, shape (1, n_vocab)."""
        if len(self.cached_ids(branch)) == len(ids) - 1 and self.follow != 0:
            return self.forward(branch, ids[-1:], 1)
        return self.read(branch, ids)

    def reuse_prefix(self, branch: int, ids: Sequence[int], keep: int = 1) -> int:
        """Truncate the branch to the common prefix with these tokens, and return its length.

        At least `keep` tokens are left to compute. A cache that cannot be truncated there is emptied, and so is one
        that cannot be followed by that many tokens.
        """
        held = self.cached_ids(branch)
        there = min(common_prefix(held, list(ids)), len(ids) - keep)
        if self.follow is not None and len(ids) - there > self.follow:
            there = self.truncate(branch, 0)
        elif there < len(held):
            there = self.truncate(branch, there)
        return there

    def truncate(self, branch: int, length: int) -> int:
        """Drop the tokens from `length` on; returns what is left, 0 if the cache cannot be truncated there."""
        held = self.cached_ids(branch)
        left = length if length >= len(held) or self._truncate(branch, length) else 0
        if not left:
            self._empty(branch)
        del held[left:]
        return left

    def forward(self, branch: int, ids: Sequence[int], keep: int) -> Floats:
        """Append tokens to a branch; returns the logits after the last `keep` of them, shape (keep, n_vocab)."""
        logits = self._forward(branch, ids, keep)
        self.cached_ids(branch).extend(ids)
        return logits

    def clear(self) -> None:
        """Drop everything that was read: it was computed with other adapters, or a step failed."""
        for branch in list(self._held):
            self._empty(branch)
            self._held[branch] = []

    @abstractmethod
    def _forward(self, branch: int, ids: Sequence[int], keep: int) -> Floats: ...

    @abstractmethod
    def _truncate(self, branch: int, length: int) -> bool:
        """Truncate the cache; False if that is not possible."""

    @abstractmethod
    def _empty(self, branch: int) -> None: ...

    def close(self) -> None:
        """Free the caches."""
        self.clear()
