"""Finds banned strings in a text that grows by tokens, and knows where one may have begun.

A position is an immutable value, so that going back means keeping an old one. It must not know how tokens are chosen.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, replace

from loaders.banned.budget import StepBudget
from loaders.banned.pattern import BannedPattern, TextState
from loaders.banned.regex import LINE, class_of

#: A match is at most this many characters long: what could become a longer one is given up.
LONGEST_MATCH = 500

_Decoder = codecs.getincrementaldecoder("utf-8")


@dataclass(frozen=True, slots=True)
class TextPosition:
    """The end of the text so far. A place is the index of a token; -1 is the prompt.

    `open`: for each string that may have begun, its state, its place and its first character's index; of those in one
    state, the first and the last one. `rest` are the bytes of an incomplete character, which began at `rest_place`.
    """

    open: tuple[tuple[TextState, int, int], ...] = ()
    length: int = 0
    before: str = LINE
    rest: bytes = b""
    rest_place: int = -1

    @property
    def earliest(self) -> int | None:
        """The first place at which a string may have begun; None if nowhere."""
        places = [place for _, place, _ in self.open]
        return min([*places, self.rest_place] if self.rest else places, default=None)


class TextScan:
    """Advances positions. `skip`: places at which no string may begin, because it could not be avoided there."""

    def __init__(self, pattern: BannedPattern) -> None:
        self._pattern = pattern
        self._budget = StepBudget()
        self._place = -1  # of the last token
        self.skip: set[int] = set()

    def advance(self, at: TextPosition, data: bytes, place: int) -> tuple[TextPosition, int | None]:
        """The position after a token's bytes, and the place at which a string began that is now complete.

        The earliest, if several are; None if none is. Raises: InvalidInput if searching it costs too much.
        """
        if place != self._place or place < 0:  # not if another token is tried there
            self._budget.refill()
        self._place = place
        decoder = _Decoder("replace")
        decoder.setstate((at.rest, 0))
        first = at.rest_place if at.rest else place
        text = decoder.decode(data)
        rest = bytes(decoder.getstate()[0])
        found: set[int] = set()
        for char in text:
            at = self._read(at, char, first, found)
            first = place
        rest_place = first if rest else -1
        at = replace(at, rest=rest, rest_place=rest_place)
        return at, min(found - self.skip, default=None)

    def ending(self, at: TextPosition) -> int | None:
        """The place at which a string began that is complete if the text ends here; None if there is none."""
        return min({place for state, place, _ in at.open if state.ends} - self.skip, default=None)

    def _read(self, at: TextPosition, char: str, place: int, found: set[int]) -> TextPosition:
        opened: dict[TextState, list[tuple[int, int]]] = {}  # the first and the last: that one is left if it expires
        starting = () if place in self.skip else ((self._pattern.start(at.before, self._budget), place, at.length),)
        for state, begun, first in (*at.open, *starting):
            if at.length - first >= LONGEST_MATCH:
                continue
            ended, following = self._pattern.step(state, char, self._budget)
            if ended:
                found.add(begun)
            if following is not None:
                if following.accepts:
                    found.add(begun)
                same = opened.setdefault(following, [])
                same.append((begun, first))
                if len(same) > 2:
                    same.sort(key=lambda each: each[1])
                    del same[1]
        threads = tuple((state, *each) for state, same in opened.items() for each in same)
        return TextPosition(threads, at.length + 1, class_of(char))
