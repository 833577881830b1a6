"""Drafts from the text itself: what followed the last tokens where they stood before. Token ids in, token ids out.

Source of the idea: Saxena 2023, prompt lookup decoding.
"""

from __future__ import annotations

from collections.abc import Sequence

from loaders.drafting.drafted import DraftedTokens
from loaders.prefix import common_prefix

#: The lengths in tokens of the ends that are looked for, longest first.
SIZES = (24, 12, 8, 5, 3, 2)
#: How many tokens after each are assumed to be right for one that is wrong, before that is known; the last is for a
#: shortest length of 1.
TRUST = (12.0, 6.0, 4.0, 2.5, 2.0, 2.0, 2.0)


class NgramDrafter:
    """For one text that grows and may be cut. Each token is indexed once, and what was cut is taken back, so a call
    costs the same however long the text is.
    """

    def __init__(self, shortest: int = 2, min_hits: int = 1) -> None:
        """`shortest`: the fewest tokens that must be equal; `min_hits`: how often they must have stood before."""
        self._sizes = [size for size in SIZES if size > shortest]
        self._sizes.append(shortest)
        self._min_hits = min_hits
        self._last: dict[int, tuple[int, int]] = {}  # hash of an n-gram -> the position after it, its occurrences
        self._indexed: list[int] = []
        self._replaced: list[list[tuple[int, int] | None]] = []  # for each indexed token: what its n-grams replaced

    def propose(self, ids: Sequence[int], most: int) -> DraftedTokens | None:
        """Up to `most` tokens that could follow; None if the text's end is new."""
        self._index(ids)
        length = len(ids)
        for kind, size in enumerate(self._sizes):
            if size >= length:
                continue
            end = tuple(ids[length - size :])
            place, hits = self._last.get(hash(end), (0, 0))
            if hits < self._min_hits or tuple(ids[place - size : place]) != end:
                continue
            found = list(ids[place : place + most])
            while 0 < len(found) < most:  # the text repeats itself up to its end
                found += found[: most - len(found)]
            if found:
                return DraftedTokens(found, kind)
        return None

    def _index(self, ids: Sequence[int]) -> None:
        """Every n-gram that ends before the last token."""
        known = self._indexed
        if len(known) >= len(ids) or (known and known[-1] != ids[len(known) - 1]):
            self._cut(common_prefix(known, list(ids[: min(len(known), len(ids) - 1)])))
        for end in range(len(known) + 1, len(ids)):
            known.append(ids[end - 1])
            replaced: list[tuple[int, int] | None] = []
            for size in self._sizes:
                if size <= end:
                    key = hash(tuple(ids[end - size : end]))
                    before = self._last.get(key)
                    replaced.append(before)
                    self._last[key] = (end, before[1] + 1 if before else 1)
            self._replaced.append(replaced)

    def _cut(self, length: int) -> None:
        """Take back the n-grams that end after this many tokens, the last ones first."""
        known = self._indexed
        while len(known) > length:
            end, replaced = len(known), self._replaced.pop()
            sizes = [size for size in self._sizes if size <= end]
            for size, before in zip(reversed(sizes), reversed(replaced), strict=True):
                key = hash(tuple(known[end - size :]))
                if before is None:
                    del self._last[key]
                else:
                    self._last[key] = before
            known.pop()
