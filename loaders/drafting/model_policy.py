"""How far a draft model should draft: each token costs time before it is known whether it is right.

A token is drafted if that is expected to make the step faster per token. How often guesses are right is learned for
each degree of the draft model's confidence. It knows no engine; tokens count in rows, because guidance takes two each.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from loaders.drafting.policy import DraftPolicy, StepTimes, at_most

#: The probabilities that separate degrees of confidence, and how often each is right before anything is known.
_DEGREES = (0.3, 0.5, 0.7, 0.85, 0.95)
_ASSUMED = (0.5, 0.65, 0.8, 0.88, 0.94, 0.98)
_HOPE = 0.9  # the same for a token that has not been guessed yet
_WEIGHT = 6.0  # observations that what is assumed counts for
_MEMORY = 0.96  # of what is known, per observation
_RECOVERY = 0.003  # how much of it is forgotten in each step without a draft
_AHEAD = 8  # how many further guesses are considered together
_WORTH = 1.04  # a step must be expected to be faster per token by this factor
_PRICE = 0.3  # of a drafted token, as a fraction of a step with one row, before it was measured
_READING = 0.1  # of a token of the prompt, likewise
_ALLOWED = 0.08  # seconds that trying may lose in any case
_GAIN = 1.1  # how much faster drafts are assumed to be before that was measured
_NEW = 0.1  # weight of a new measurement of it
#: A reply is expected to become at least this long, in tokens, and at least twice as long as it is.
_EXPECTED = 64


class Chances:
    """How often guesses of each degree of confidence were right."""

    def __init__(self) -> None:
        self._assumed = [*_ASSUMED, _HOPE]
        self._right = [_WEIGHT * each for each in self._assumed]
        self._all = [_WEIGHT] * len(self._assumed)

    @staticmethod
    def degree(probability: float) -> int:
        """The degree of confidence of a token with this probability."""
        return bisect.bisect(_DEGREES, probability)

    def of(self, degree: int) -> float:
        """The chance that a token of this degree is right; -1 is a token that has not been guessed yet."""
        return self._right[degree] / self._all[degree]

    def note(self, degree: int, *, right: bool) -> None:
        """A token of this degree was right, or was not."""
        for each in (degree, -1):
            self._right[each] = self._right[each] * _MEMORY + right
            self._all[each] = self._all[each] * _MEMORY + 1

    def forget(self) -> None:
        """Nothing was drafted: what was wrong for a while may be right again."""
        for each, assumed in enumerate(self._assumed):
            self._right[each] += (_WEIGHT * assumed - self._right[each]) * _RECOVERY
            self._all[each] += (_WEIGHT - self._all[each]) * _RECOVERY


@dataclass(slots=True)
class StepPlan:
    """A step that is being put together: its replies' rows, all rows, expected tokens in rows, and drafting so far."""

    replies: int
    rows: int
    tokens: float
    seconds: float = 0.0

    def add(self, each: int, chance: float) -> None:
        """A guessed token of a reply with `each` branches."""
        self.rows += each
        self.tokens += each * chance


class ModelPolicy:
    """For the draft model of one engine. `policy` knows what the engine's steps take."""

    def __init__(self, policy: DraftPolicy) -> None:
        self.chances = Chances()
        self.price = StepTimes()  # of the draft model's steps, by their rows
        self._policy = policy
        self._gain = _GAIN
        self._reading = 0.0  # seconds per token of a prompt

    def pays(self, plan: StepPlan, each: int, chance: float, behind: int = 1) -> bool:
        """Whether guessing one more token is worth its time. `chance`: that all guesses before it are right. `behind`:
        how many tokens the draft model must decode for it.
        """
        times = self._policy.times
        alone = times.seconds(plan.replies)
        if not alone or self._policy.exhausted(_ALLOWED):
            return False
        speed = plan.tokens / (times.seconds(plan.rows) + plan.seconds)
        speed *= _WORTH if plan.rows == plan.replies else 1.0
        one = self.price.seconds(1) or _PRICE * alone
        tokens, seconds = plan.tokens, plan.seconds + (self.price.seconds(behind) or behind * one)
        for more in range(1, _AHEAD + 1):  # the first one may only pay together with those after it
            chance *= self.chances.of(-1)
            tokens += each * chance
            if tokens > speed * (seconds + times.seconds(plan.rows + each * more)):
                return True
            seconds += one
        return False

    def judge(self, degrees: tuple[int, ...], accepted: int) -> None:
        """The first `accepted` tokens of a draft were right."""
        for degree in degrees[:accepted]:
            self.chances.note(degree, right=True)
        for degree in degrees[accepted : accepted + 1]:
            self.chances.note(degree, right=False)

    def note_gain(self, plan: StepPlan, accepted: int) -> None:
        """A step with drafts has gained `accepted` tokens, in rows."""
        times = self._policy.times
        alone = times.seconds(plan.replies)
        if alone and plan.seconds:
            gain = alone * (plan.replies + accepted) / plan.replies / (times.seconds(plan.rows) + plan.seconds)
            self._gain += _NEW * (gain - self._gain)

    def forget(self) -> None:
        """No draft was made in this step."""
        self.chances.forget()
        self.price.relax()
        self._gain += (_GAIN - self._gain) * _RECOVERY
        if self._reading and (alone := self._policy.times.seconds(1)):  # it may have been delayed by something else
            self._reading += min(_READING * alone - self._reading, 0.0) * _RECOVERY

    @property
    def gain(self) -> float:
        """How much faster per token a step with its drafts has been of late, as a factor."""
        return self._gain

    # --- prompts ---

    def note_reading(self, tokens: int, seconds: float) -> None:
        """The draft model took `seconds` for `tokens` of a prompt."""
        each = seconds / tokens
        self._reading += 0.3 * (at_most(each, self._reading) - self._reading) if self._reading else each

    def worth_reading(self, tokens: int, replies: int, so_far: int, left: int) -> bool:
        """Whether to read `tokens` of a prompt, to draft for a reply that has `so_far` tokens and may get `left`."""
        alone = self._policy.times.seconds(replies)
        if not alone or self._gain <= 1 or self._policy.exhausted(_ALLOWED):
            return False
        saved = alone * (1 - 1 / self._gain) * min(max(_EXPECTED, so_far), left)
        return tokens * (self._reading or _READING * alone) <= saved

    def piece(self, replies: int) -> int:
        """How many tokens of a prompt to read at once: as many as take the time of some steps."""
        alone = self._policy.times.seconds(replies)
        return max(32, int(4 * alone / self._reading)) if alone and self._reading else 64
