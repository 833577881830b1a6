"""How many tokens to draft: as many as pay, by how often earlier drafts were right and what a step of more rows costs.

Where nothing pays, nothing is drafted; to find out, it may lose a small part of the time. It knows no engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

#: The lengths that are tried: few, so that each is measured soon.
LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
#: A step must be expected to be faster per token by this factor.
_WORTH = 1.04
#: The fraction of the time that may be lost by trying, and the seconds that may be in any case.
_TRYING, _ALLOWED = 0.015, 0.02
_RECOVERY = 0.003  # how much of what is known about drafts is forgotten each time when none is made
#: Weight of a new measurement of a step that took less than known, and of one that took more: others delay some.
_LESS, _MORE = 0.25, 0.06
_MOST = 1.5  # as a multiple of what such a step usually takes, it counts at most
#: The same where it is learned what such a step takes. A computer that sleeps within a step must not change that.
_LEARNED = 3.0
_DRIFT = 0.15  # of a new measurement of how slow the machine is at present
_HALF_LIFE = 0.75  # of what is known about drafts, per draft
_WRONG = 1.0  # what is assumed before anything is known, per `trust` in tokens that are right
_GROWTH = 0.15  # what a row is assumed to add to a step, as a fraction of a step with one, before it was measured


def at_most(seconds: float, usual: float) -> float:
    """What may be learned from a measurement of something that usually takes `usual` seconds."""
    return min(seconds, _LEARNED * usual)


class StepTimes:
    """The measured time of steps with few rows, by the number of rows. What other programs add counts little."""

    def __init__(self) -> None:
        self._known: dict[int, float] = {}

    def note(self, rows: int, seconds: float) -> None:
        """A step with this many rows took this long."""
        before = self._known.get(rows)
        if before is None:
            below = max((each for each in self._known if each < rows), default=0)
            self._known[rows] = min(seconds, self._known[below] * rows / below) if below else seconds
        else:
            self._known[rows] = before + (_LESS if seconds < before else _MORE) * (at_most(seconds, before) - before)

    def relax(self) -> None:
        """Nothing was tried: what seemed expensive may have been delayed by something else."""
        fewest = min(self._known, default=0)
        for rows, seconds in self._known.items():
            assumed = self._known[fewest] * (1 + _GROWTH * (rows - fewest))
            if seconds > assumed:
                self._known[rows] = seconds + _RECOVERY * (assumed - seconds)

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

    def __init__(self, trust: Sequence[float]) -> None:
        """`trust`: for each kind of draft, how many tokens are assumed to be right for one that is wrong."""
        self._trust = trust
        self.times = StepTimes()
        self._right = list(trust)
        self._wrong = [_WRONG] * len(trust)
        self._total = self._lost = 0.0
        self._slowness = 1.0  # what steps take at present, compared with what they usually take

    def exhausted(self, allowed: float = _ALLOWED) -> bool:
        """Whether trying has lost as much time as it may: `allowed` seconds in any case."""
        return self._lost > allowed + _TRYING * self._total

    def length(self, kind: int, lengths: Iterable[int], rows: int, each: int = 1, worth: float = _WORTH) -> int:
        """How many tokens of a draft of this kind to check; 0 for none. `rows`: those of the step without it.

        `each`: how many rows each of its tokens takes, which are also those of the reply's own token. `worth`: the
        factor by which the step must be faster per token.
        """
        alone = self.times.seconds(rows)
        if not alone:
            return 0
        if self.exhausted():
            return 0
        rate = self.chance(kind)
        best, gain = 0, max(worth, _WORTH)
        for length in lengths:
            tokens = (1 - rate ** (length + 1)) / (1 - rate) if rate < 1 else length + 1.0
            # the other replies in the step get no more tokens, but take part in its price
            speed = (rows - each + each * tokens) / rows * alone / self.times.seconds(rows + each * length)
            if speed > gain:
                best, gain = length, speed
        if not best:  # what was wrong for a while may be right again
            self._right[kind] += (self._trust[kind] - self._right[kind]) * _RECOVERY
            self._wrong[kind] += (_WRONG - self._wrong[kind]) * _RECOVERY
            self.times.relax()
        return best

    def chance(self, kind: int) -> float:
        """How likely a token of such a draft is right if those before it are."""
        return self._right[kind] / (self._right[kind] + self._wrong[kind])

    def judge(self, kind: int, drafted: int, accepted: int) -> None:
        """`accepted` of the drafted tokens were right."""
        self._right[kind] = self._right[kind] * _HALF_LIFE + accepted
        self._wrong[kind] = self._wrong[kind] * _HALF_LIFE + (accepted < drafted)

    def note(self, rows: int, replies: int, seconds: float, accepted: int, drafting: float = 0.0) -> None:
        """A step with this many rows for so many replies has gained `accepted` tokens; making the drafts took
        `drafting` seconds. Rows count, because with guidance a reply has two.
        """
        self.times.note(rows, seconds)
        self._total += seconds + drafting
        usual = self.times.seconds(rows)
        self._slowness += _DRIFT * (at_most(seconds, usual) / usual - self._slowness)
        if rows > replies or drafting:
            gained = self.times.seconds(replies) * (1 + accepted / max(replies, 1))
            # what other programs have added to this step is not lost by drafting
            spent = min(seconds / max(self._slowness, 1.0), _MOST * usual)
            self._lost = max(self._lost + spent + drafting - gained, 0.0)
