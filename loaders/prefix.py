"""The common prefix of two lists of tokens: what a cache need not compute again; and replies that have gone back."""

from __future__ import annotations

from collections.abc import Sequence


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the longest common prefix, by bisection: slices of one type compare at C speed."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def has_gone_back(ids: Sequence[int], start: int, read: Sequence[int]) -> bool:
    """Whether a reply whose tokens from `start` on were `read` has gone back before their end.

    To avoid a banned string, it continues there with another token: so the last one that was read tells.
    """
    end = start + len(read)
    return len(ids) < end or (bool(read) and ids[end - 1] != read[-1])
