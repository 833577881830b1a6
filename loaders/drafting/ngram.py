"""Drafts from the text itself: what followed the last tokens where they stood before. Token ids in, token ids out.

Source of the idea: Saxena 2023, prompt lookup decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from loaders.drafting.drafted import DraftedTokens
from loaders.prefix import common_prefix

#: The lengths in tokens of the ends that are looked for, longest first.
SIZES = (24, 12, 8, 5, 3, 2)
#: How many tokens after each are assumed to be right for one that is wrong, before that is known; the last is for a
#: shortest length of 1.
TRUST = (12.0, 6.0, 4.0, 2.5, 2.0, 2.0, 2.0)
#: How many tokens a call indexes or takes back at most, a few milliseconds: a long text delays no other reply.
PIECE = 512


@dataclass(slots=True)
class _Ends:
    """Where n-grams of one size end. Numbers only, and small: none of it is visited by the garbage collector."""

    size: int
    last: dict[int, int] = field(default_factory=dict)  # hash of an n-gram -> the position after it
    hits: dict[int, int] = field(default_factory=dict)  # the same -> how often it stands there
    replaced: list[int] = field(default_factory=list)  # for each position, what it replaced in `last`; 0 for nothing

    def add(self, ids: Sequence[int], end: int) -> None:
        """Index the one that ends here."""
        if self.size <= end:
            key = hash(tuple(ids[end - self.size : end]))
            self.replaced.append(self.last.get(key, 0))
            self.last[key] = end
            self.hits[key] = self.hits.get(key, 0) + 1

    def take_back(self, ids: Sequence[int], end: int) -> None:
        """Undo the last `add`."""
        if self.size <= end:
            key = hash(tuple(ids[end - self.size : end]))
            if before := self.replaced.pop():
                self.last[key] = before
                self.hits[key] -= 1
            else:
                del self.last[key], self.hits[key]

    def find(self, end: tuple[int, ...], ids: Sequence[int], min_hits: int) -> int:
        """The position after the last n-gram like this; 0 if there is none, or too few."""
        key = hash(end)
        place = self.last.get(key, 0)
        return place if self.hits.get(key, 0) >= min_hits and tuple(ids[place - self.size : place]) == end else 0


class NgramDrafter:
    """For one text that grows and may be cut. Each token is indexed once, and what was cut is taken back, both in
    pieces, so a call costs the same however long the text is.
    """

    def __init__(self, shortest: int = 2, min_hits: int = 1) -> None:
        """`shortest`: the fewest tokens that must be equal; `min_hits`: how often they must have stood before."""
        self._ends = [_Ends(size) for size in (*(size for size in SIZES if size > shortest), shortest)]
        self._min_hits = min_hits
        self._indexed: list[int] = []
        self._cutting = False  # whether more must be taken back

    def propose(self, ids: Sequence[int], most: int) -> DraftedTokens | None:
        """Up to `most` tokens that could follow; None if the text's end is new."""
        self._index(ids)
        length = len(ids)
        for kind, ends in enumerate(self._ends):
            if ends.size >= length:
                continue
            place = ends.find(tuple(ids[length - ends.size :]), ids, self._min_hits)
            if not place:
                continue
            found = list(ids[place : place + most])
            while 0 < len(found) < most:  # the text repeats itself up to its end
                found += found[: most - len(found)]
            if found:
                return DraftedTokens(found, kind)
        return None

    def _index(self, ids: Sequence[int]) -> None:
        """The next piece of the n-grams that end before the last token."""
        known = self._indexed
        if self._cutting or len(known) >= len(ids) or (known and known[-1] != ids[len(known) - 1]):
            same = common_prefix(known, list(ids[: min(len(known), len(ids) - 1)]))
            self._cut(max(same, len(known) - PIECE))
            self._cutting = len(known) > same
            if self._cutting:
                return
        for end in range(len(known) + 1, min(len(known) + 1 + PIECE, len(ids))):
            known.append(ids[end - 1])
            for ends in self._ends:
                ends.add(ids, end)

    def _cut(self, length: int) -> None:
        """Take back the n-grams that end after this many tokens, the last ones first."""
        known = self._indexed
        while len(known) > length:
            for ends in self._ends:
                ends.take_back(known, len(known))
            known.pop()
