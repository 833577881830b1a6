"""What computes logits from tokens and keeps what it has read: all that the engine of the HF loaders asks of a backend.

Branch 0 holds the prompt, branch 1 the negative prompt of guidance; a backend that searches with beams has more. It
must not know of requests, sampling or text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from loaders.logits import Floats
from loaders.prefix import common_prefix


class Decoder(ABC):
    """Caches with the tokens that they hold. Used by one thread at a time."""

    n_ctx: int
    n_vocab: int
    branches: int = 2
    piece: int = 512  # the most tokens of one forward
    follow: int | None = None  # the most tokens that one forward may add to a branch that holds some; None: any number
    cells: int | None = None  # tokens that all branches have room for together, where they share it
    in_use: int = 1  # branches that are being read into: the others may be emptied where room is short

    def __init__(self) -> None:
        self._held: dict[int, list[int]] = {}

    def room(self, lengths: Sequence[int]) -> int:
        """How many tokens can follow prompts of these lengths, one to a branch, on all branches alike."""
        alone = self.n_ctx - max(lengths)
        return alone if self.cells is None else min(alone, (self.cells - sum(lengths)) // len(lengths))

    def held(self, branch: int) -> list[int]:
        """The tokens that this branch's cache holds."""
        return self._held.setdefault(branch, [])

    def read(self, branch: int, ids: Sequence[int], keep: int = 1, go_on: Callable[[], bool] | None = None) -> Floats:
        """The logits after the last `keep` of these tokens, shape (keep, n_vocab), float32.

        What the branch holds already is not computed again: `begin` says how much that is. `go_on` is asked between
        two pieces; where it says no, what was read stays, and the shape is (0, n_vocab). With `follow` there is one
        piece: the whole text.
        """
        there = self.begin(branch, ids, keep)
        first = len(ids) - keep
        while True:
            end = len(ids) if self.follow is not None else min(there + self.piece, len(ids))
            if first < end < len(ids):  # all rows that are wanted come out of one forward
                end = first if there < first else len(ids)
            logits = self.forward(branch, ids[there:end], keep if end == len(ids) else 0)
            there = end
            if there == len(ids):
                return logits
            if go_on and not go_on():
                return logits[:0]

    def step(self, branch: int, ids: Sequence[int]) -> Floats:
        """The logits after these tokens, of which the branch holds all but the last, shape (1, n_vocab)."""
        if len(self.held(branch)) == len(ids) - 1 and self.follow != 0:
            return self.forward(branch, ids[-1:], 1)
        return self.read(branch, ids)

    def begin(self, branch: int, ids: Sequence[int], keep: int = 1) -> int:
        """Cut the branch to what of it is the beginning of these tokens, and return its length.

        At least `keep` tokens are left to compute. A cache that cannot be cut there is emptied, and so is one that so
        many tokens may not follow.
        """
        held = self.held(branch)
        there = min(common_prefix(held, list(ids)), len(ids) - keep)
        if self.follow is not None and len(ids) - there > self.follow:
            there = self.cut(branch, 0)
        elif there < len(held):
            there = self.cut(branch, there)
        return there

    def cut(self, branch: int, length: int) -> int:
        """Forget the tokens from `length` on; returns what is left, 0 where the cache cannot be cut there."""
        held = self.held(branch)
        left = length if length >= len(held) or self._cut(branch, length) else 0
        if not left:
            self._empty(branch)
        del held[left:]
        return left

    def forward(self, branch: int, ids: Sequence[int], keep: int) -> Floats:
        """Append tokens to a branch; the logits after the last `keep` of them, shape (keep, n_vocab)."""
        logits = self._forward(branch, ids, keep)
        self.held(branch).extend(ids)
        return logits

    def forget(self) -> None:
        """Nothing that was read is to be found again: it was computed under other adapters, or a step failed."""
        for branch in list(self._held):
            self._empty(branch)
            self._held[branch] = []

    @abstractmethod
    def _forward(self, branch: int, ids: Sequence[int], keep: int) -> Floats: ...

    @abstractmethod
    def _cut(self, branch: int, length: int) -> bool:
        """Cut the cache; False where it cannot be."""

    @abstractmethod
    def _empty(self, branch: int) -> None: ...

    def close(self) -> None:
        """Give the caches back."""
        self.forget()
