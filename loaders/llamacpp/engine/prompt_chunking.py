"""How many prompt tokens go into one step: whole batches, or chunks that leave running replies a part of their speed.

The cost of a step is measured by its rows and their depth. It knows of no engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Next to replies, a step with a chunk takes at most this many times as long as one without, or this many seconds,
#: whichever is more: replies keep that part of their speed, or continue after an unnoticeable pause. Smaller chunks are
#: expensive: on a CPU, chunks of 50 tokens are read at two thirds of the speed of whole batches.
MAX_SLOWDOWN = 8
MAX_WAIT = 0.5
#: The most seconds that a step of a yielding request should take.
YIELDING_STEP = 0.1
#: The chunk size next to replies while no step of at least half as many rows has been measured.
_FIRST_PIECE = 32
_NEW = 0.25  # weight of a new measurement among those of its kind
_OUTLIER = 3.0  # a step counts as at most this many times as slow as its kind was
_HALF_LIFE = 16  # steps after which an older measurement counts half as much as a new one
_OLDEST = 1e-3  # and no less than this
#: Which of the three coefficients are not 0: the simplest first, because the measurements may not distinguish rows from
#: depth.
_CHOICES = ((0, 1), (1,), (0,), (0, 1, 2), (1, 2), (0, 2), (2,))
_BETTER = 0.8  # a later choice must reduce the error to this fraction
_ENOUGH = 24  # steps after which the cost is known
_CELLS = 256  # llama.cpp reads the cache in blocks of this many cells


@dataclass(slots=True)
class _Kind:
    """Steps of about this many rows at about this depth, averaged."""

    rows: float
    work: float
    seconds: float
    at: int  # the last recorded step


class StepCost:
    """The seconds of a step: a + b rows + c rows * cells, all at least 0, fitted to the measurements.

    The relative error is minimized. One average is kept for each kind of step (rows and cells to the next power of
    two), so thousands of steps of one token do not outweigh the few of a prompt.
    """

    def __init__(self) -> None:
        self._kinds: dict[tuple[int, int], _Kind] = {}
        self._steps = 0
        self._fit: tuple[float, float, float] | None = None

    @property
    def most_rows(self) -> int:
        """The most rows of a measured step."""
        return max((round(kind.rows) for kind in self._kinds.values()), default=0)

    def note(self, rows: int, cells: int, seconds: float) -> None:
        """Record the duration of a step with this many rows over this many cells of the cache."""
        if rows <= 0 or seconds <= 0:
            return
        self._steps += 1
        self._fit = None
        key = (rows.bit_length(), (cells // _CELLS).bit_length())
        kind = self._kinds.get(key)
        work = float(rows * cells)
        if kind is None:
            self._kinds[key] = _Kind(rows, work, seconds, self._steps)
            return
        kind.seconds += _NEW * (min(seconds, _OUTLIER * kind.seconds) - kind.seconds)
        kind.rows += _NEW * (rows - kind.rows)
        kind.work += _NEW * (work - kind.work)
        kind.at = self._steps

    def seconds(self, rows: int, cells: int) -> float:
        """The expected duration of such a step; 0 without measurements."""
        a, b, c = self._fitted()
        return a + b * rows + c * rows * cells

    def of_one(self) -> float:
        """The seconds of steps with one row; 0 before enough of them were measured."""
        if self._steps < _ENOUGH:
            return 0.0
        found = [kind for (rows, _), kind in self._kinds.items() if rows == 1]
        return max(found, key=lambda kind: kind.at).seconds if found else 0.0

    def _fitted(self) -> tuple[float, float, float]:
        if self._fit is None:
            self._fit = self._best_fit() if self._kinds else (0.0, 0.0, 0.0)
        return self._fit

    def _best_fit(self) -> tuple[float, float, float]:
        kinds = list(self._kinds.values())
        features = np.array([(1.0, kind.rows, kind.work) for kind in kinds])
        seconds = np.array([kind.seconds for kind in kinds])
        ages = np.array([self._steps - kind.at for kind in kinds])
        weights = np.maximum(0.5 ** (ages / _HALF_LIFE), _OLDEST)
        scaled = features * (weights / seconds)[:, None]
        best, least = np.zeros(3), np.inf
        for columns in _CHOICES:
            found = _solved(scaled, weights, columns)
            error = float(((scaled @ found - weights) ** 2).sum())
            if (found >= 0).all() and error < least * _BETTER:
                best, least = found, error
        return float(best[0]), float(best[1]), float(best[2])


def _solved(
    scaled: npt.NDArray[np.float64], target: npt.NDArray[np.float64], columns: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    used = scaled[:, columns]
    size = np.abs(used).max(axis=0)
    size[size == 0] = 1.0
    out = np.zeros(3)
    out[list(columns)] = np.linalg.lstsq(used / size, target, rcond=None)[0] / size
    return out


class PromptChunker:
    """Chooses the chunk size of prompts, at most `largest` tokens. It never depends on its own last choice."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self.cost = StepCost()

    def piece(self, beside: int, cells: int, seconds: float | None = None) -> int:
        """The chunk size of the next step; `beside`: rows of running replies in it, `cells` that the cache holds.

        `seconds`: what the step may take, also without replies beside it.
        """
        if not beside and seconds is None:
            return self._largest
        if 2 * self.cost.most_rows < _FIRST_PIECE:
            return min(_FIRST_PIECE, self._largest)
        most = seconds or max(MAX_SLOWDOWN * self.cost.seconds(beside, cells), MAX_WAIT)
        low, high = 1, self._largest
        while low < high:
            middle = (low + high + 1) // 2
            if self.cost.seconds(beside + middle, cells + middle) <= most:
                low = middle
            else:
                high = middle - 1
        return low
