"""The sequences of one KV cache: which tokens each holds, which are free, and which suits a prompt best.

A sequence that no request uses keeps its tokens, so that the next request with the same beginning need not compute
them again. Used by the engine's thread alone; knows nothing of requests.
"""

from __future__ import annotations

import time
from collections.abc import Sequence as Ids
from dataclasses import dataclass, field

from loaders.llamacpp.native import Context


@dataclass(slots=True, eq=False)
class Sequence:
    """One sequence of the cache. `ids` are the tokens that it holds; `released` is when it was last in use."""

    id: int
    ids: list[int] = field(default_factory=list)
    busy: bool = False
    released: float = 0.0


def common_prefix(a: Ids[int], b: Ids[int]) -> int:
    """The length of the longest common beginning, by halving: slices compare at C speed."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


class Sequences:
    """All sequences of one context."""

    def __init__(self, context: Context, count: int) -> None:
        self._context = context
        self._all = [Sequence(i) for i in range(count)]

    def has_free(self) -> bool:
        return any(not sequence.busy for sequence in self._all)

    def take(self, ids: list[int]) -> tuple[Sequence, str]:
        """The free sequence with the longest common beginning, cut to that; else the one unused for longest.

        At least the last of `ids` is left to decode, for its logits are wanted. Returns the sequence, now busy, and
        the reason for how much of it could be kept.
        """
        free = [sequence for sequence in self._all if not sequence.busy]
        shared, best = max(
            ((common_prefix(each.ids, ids), each) for each in free), key=lambda pair: (pair[0], -pair[1].released)
        )
        held = len(best.ids)
        self.cut(best, min(shared, len(ids) - 1))
        best.busy = True
        if best.ids:
            return best, "from the cache"
        if shared > 1:
            return best, "this model's memory cannot be cut in the middle"
        return best, "another prompt was in the cache" if held else "the cache was empty"

    def cut(self, sequence: Sequence, length: int) -> None:
        """Drop a sequence's tokens from `length` on; all of them where the memory cannot be cut in the middle."""
        if not self._context.forget(sequence.id, length):
            self._context.forget(sequence.id)
            length = 0
        del sequence.ids[length:]

    def release(self, sequence: Sequence) -> None:
        """Its request has left; what it holds may serve another."""
        sequence.busy = False
        sequence.released = time.monotonic()

    def drop_idle(self) -> bool:
        """Empty the idle sequence that was unused for longest. False when no idle one holds anything."""
        idle = [sequence for sequence in self._all if not sequence.busy and sequence.ids]
        if idle:
            self.cut(min(idle, key=lambda sequence: sequence.released), 0)
        return bool(idle)

    def clear(self) -> None:
        """Forget everything, after a failure left the cache in doubt."""
        self._context.clear()
        for sequence in self._all:
            sequence.ids.clear()
