"""How many tokens to draft: as many as pay, by how often earlier drafts were right and what a step of more rows costs.

Where nothing pays, nothing is drafted; to find out, it may lose a small part of the time. It knows no engine.
"""

from __future__ import annotations

from collections.abc import Iterable

#: The lengths that are tried: few, so that each is measured soon.
LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
#: A step must be expected to be faster per token by this factor.
_WORTH = 1.04
#: The fraction of the time that may be lost by trying, and the seconds that may be in any case.
_TRYING, _ALLOWED = 0.015, 0.02
_RECOVERY = 0.003  # how much of what is known about drafts is forgotten each time when none is made
_NEW = 0.2  # weight of a new measurement of a step
_HALF_LIFE = 0.75  # of what is known about drafts, per draft
_RIGHT, _WRONG = 2.0, 1.0  # what is assumed before anything is known: two of three tokens are right
_GROWTH = 0.15  # what a row is assumed to add to a step, as a fraction of a step with one, before it was measured


class StepTimes:
    """The measured time of steps with few rows, by the number of rows."""

    def __init__(self) -> None:
        self._known: dict[int, float] = {}

    def note(self, rows: int, seconds: float) -> None:
        """A step with this many rows took this long."""
        before = self._known.get(rows, seconds)
        self._known[rows] = before + (_NEW if seconds < 2 * before else _NEW / 4) * (seconds - before)

    def seconds(self, rows: int) -> float:
        """The expected time of such a step; 0 if nothing was measured. Between measured numbers it is interpolated."""
        below = max((each for each in self._known if each <= rows), default=0)
        above = min((each for each in self._known if each >= rows), default=0)
        if not below:
            return self._known[above] if above else 0.0
        low = self._known[below]
        if below == rows:
            return low
        if above:
            return low + (self._known[above] - low) * (rows - below) / (above - below)
        one = self._known[min(self._known)]
        return low + _GROWTH * one * (rows - below)


class DraftPolicy:
    """For one engine. Times are of steps in which only replies are decoded."""

    def __init__(self, kinds: int) -> None:
        self.times = StepTimes()
        self._right = [_RIGHT] * kinds
        self._wrong = [_WRONG] * kinds
        self._total = self._lost = 0.0

    def length(self, kind: int, lengths: Iterable[int], rows: int, each: int = 1) -> int:
        """How many tokens of a draft of this kind to check; 0 for none. `rows`: those of the step without it.

        `each`: how many rows each of its tokens takes, which are also those of the reply's own token.
        """
        alone = self.times.seconds(rows)
        if not alone:
            return 0
        if self._lost > _ALLOWED + _TRYING * self._total:
            return 0
        rate = self._right[kind] / (self._right[kind] + self._wrong[kind])
        best, gain = 0, _WORTH
        for length in lengths:
            tokens = (1 - rate ** (length + 1)) / (1 - rate) if rate < 1 else length + 1.0
            # the other replies in the step get no more tokens, but take part in its price
            speed = (rows - each + each * tokens) / rows * alone / self.times.seconds(rows + each * length)
            if speed > gain:
                best, gain = length, speed
        if not best:  # what was wrong for a while may be right again
            self._right[kind] += (_RIGHT - self._right[kind]) * _RECOVERY
            self._wrong[kind] += (_WRONG - self._wrong[kind]) * _RECOVERY
        return best

    def judge(self, kind: int, drafted: int, accepted: int) -> None:
        """`accepted` of the drafted tokens were right."""
        self._right[kind] = self._right[kind] * _HALF_LIFE + accepted
        self._wrong[kind] = self._wrong[kind] * _HALF_LIFE + (accepted < drafted)

    def note(self, rows: int, replies: int, seconds: float, accepted: int) -> None:
        """A step with this many rows for so many replies has gained `accepted` tokens."""
        self.times.note(rows, seconds)
        self._total += seconds
        if rows > replies:
            alone = self.times.seconds(replies)
            self._lost = max(self._lost + seconds - alone * (1 + accepted / max(replies, 1)), 0.0)
