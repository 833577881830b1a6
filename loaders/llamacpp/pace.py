"""How many prompt tokens go into one step: whole batches, or pieces that leave running replies a share of their pace.

What a step costs is measured by its rows and by the depth that they look back to. It knows of no engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Beside a prompt, a step takes at most so many times as long as one without it: replies keep that part of their pace.
SLOWDOWN = 8
#: The piece that is read beside replies while no step of at least half as many rows has been measured.
_FIRST_PIECE = 32
_NEW = 0.25  # weight of a new measurement among those of its kind
_OUTLIER = 3.0  # a step counts as at most so many times as slow as its kind was
_HALF_LIFE = 16  # steps, after which an older measurement counts half as much as a new one
_OLDEST = 1e-3  # and no less than so much
#: Which of the three numbers are not 0: the simplest first, for what was measured may not tell rows from depth.
_CHOICES = ((0, 1), (1,), (0,), (0, 1, 2), (1, 2), (0, 2), (2,))
_BETTER = 0.8  # a later choice must make so much less of an error
_ENOUGH = 24  # steps, after which what one takes is known
_CELLS = 256  # llama.cpp passes over the cache in blocks of so many cells


@dataclass(slots=True)
class _Kind:
    """Steps of about so many rows at about such a depth, on average."""

    rows: float
    work: float
    seconds: float
    at: int  # the step that was noted last


class StepCost:
    """The seconds of a step: a + b rows + c rows * cells, none of the three below 0, fitted to what was measured.

    The error that is made least is the relative one. One average is kept for each kind of step (rows and cells to the
    next power of two), so thousands of steps of one token do not outweigh the few of a prompt.
    """

    def __init__(self) -> None:
        self._kinds: dict[tuple[int, int], _Kind] = {}
        self._steps = 0
        self._fit: tuple[float, float, float] | None = None

    @property
    def most_rows(self) -> int:
        """Of the steps that were measured."""
        return max((round(kind.rows) for kind in self._kinds.values()), default=0)

    def note(self, rows: int, cells: int, seconds: float) -> None:
        """A step of so many rows over so many cells of the cache took so long."""
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
        """What such a step is expected to take; 0 while nothing was measured."""
        a, b, c = self._fitted()
        return a + b * rows + c * rows * cells

    def of_one(self) -> float:
        """The seconds that steps of one row took; 0 before enough of them were measured."""
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


class PromptPace:
    """Chooses the size of a prompt's pieces, at most `largest` tokens. It never depends on its own last choice."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self.cost = StepCost()

    def piece(self, beside: int, cells: int) -> int:
        """Tokens of the next step's piece; `beside`: rows of running replies in it, `cells` that the cache holds."""
        if not beside:
            return self._largest
        if 2 * self.cost.most_rows < _FIRST_PIECE:
            return min(_FIRST_PIECE, self._largest)
        most = SLOWDOWN * self.cost.seconds(beside, cells)
        low, high = 1, self._largest
        while low < high:
            middle = (low + high + 1) // 2
            if self.cost.seconds(beside + middle, cells + middle) <= most:
                low = middle
            else:
                high = middle - 1
        return low
