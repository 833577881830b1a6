"""Which of two numbers of threads computes faster beside other programs, found by trying both.

How much a core that is partly used delays the others depends on the program that uses it: a browser in short bursts
costs less than leaving the core to it, a compiler more. Knows no clock of its own, and nothing of contexts.
"""

from __future__ import annotations

from collections import deque

#: Steps of one kind that are timed before they count, and how many of the last ones count.
TRIES, KEPT = 3, 8
#: Seconds until the slower one is tried again: at first, and at most. Each time that nothing has changed, it doubles.
SOONEST, LATEST = 1.0, 16.0
#: It must be faster by this much to be preferred from then on.
WORTH = 0.9
#: As a multiple of what such a step has taken on average, it counts at most.
_MOST = 4.0


class ThreadTrial:
    """For as long as other programs use cores; make a new one for the next time."""

    def __init__(self) -> None:
        self._times: dict[tuple[int, int], deque[float]] = {}  # by rows and threads, seconds per step
        self._preferred: dict[int, int] = {}  # by rows
        self._left: dict[tuple[int, int], int] = {}  # steps to try now
        self._wait, self._next = SOONEST, 0.0

    def choose(self, rows: int, few: int, many: int, now: float) -> int:
        """One of two numbers of threads for a step with `rows` rows: `few` until both were tried."""
        best = self._best(rows, few, many)
        if now >= self._next and len(self._times.get((rows, best), ())) >= TRIES:
            changed = self._preferred.get(rows) != best
            self._wait = SOONEST if changed else min(2 * self._wait, LATEST)
            self._preferred[rows] = best
            self._next = now + self._wait
            self._left[rows, few if best == many else many] = TRIES
        for each in (few, many):
            if self._left.get((rows, each), 0) > 0:
                return each
        return best

    def note(self, rows: int, threads: int, seconds: float) -> None:
        """A step with this number of rows and threads took `seconds`."""
        times = self._times.setdefault((rows, threads), deque(maxlen=KEPT))
        if len(times) >= TRIES:
            seconds = min(seconds, _MOST * sum(times) / len(times))
        times.append(seconds)
        if (rows, threads) in self._left:
            self._left[rows, threads] -= 1

    def _best(self, rows: int, few: int, many: int) -> int:
        before = self._preferred.get(rows, few)
        before = before if before in (few, many) else few  # others use more or less than before
        other = few if before == many else many
        known = [self._times.get((rows, each), ()) for each in (before, other)]
        if min(map(len, known)) < TRIES:
            return before
        here, there = (sum(each) / len(each) for each in known)
        return other if there < WORTH * here else before
