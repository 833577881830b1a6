"""One sequence of a KV cache, and how much of one list of tokens begins like another. Knows nothing of llama.cpp."""

from __future__ import annotations

from collections.abc import Sequence as Ids
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Sequence:
    """One sequence of the cache. `ids` are the tokens that it holds; `released` is when it was last in use."""

    id: int
    ids: list[int] = field(default_factory=list)
    busy: bool = False
    released: float = 0.0
    unsettled: bool = False  # shifted, and llama.cpp will do the work in its next step: until then, no copies of it


def common_prefix(a: Ids[int], b: Ids[int]) -> int:
    """The length of the longest common beginning, by halving: slices of one type compare at C speed."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
