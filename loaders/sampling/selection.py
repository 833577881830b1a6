"""Selects the largest values of a long array without sorting it: by number, or by their cumulative weight.

Only a part that provably contains the answer is sorted. Arrays in, positions or a mask out; nothing here knows of
tokens.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

SORTABLE = 2048  # up to here a stable sort costs less than searching for a smaller part
_ROWS = 64
_SAMPLE = 512
_MARGIN = 24  # positions in the sample, on either side of the estimate


def argsort_descending(values: Floats) -> Positions:
    """Positions from the largest value to the smallest; equal values keep their order."""
    return np.argsort(-values, kind="stable")


def argmax_k(values: Floats, count: int) -> tuple[Positions, bool]:
    """Positions of the `count` largest values and of those equal to the last of them, without any -inf.

    Returns them and whether they are in descending order; a very long result stays in the order of positions.
    """
    if len(values) <= SORTABLE:
        order = argsort_descending(values)
    else:
        part = (values >= _bound(values, count)).nonzero()[0]
        some = values[part]
        if len(part) > max(SORTABLE, count):
            edge = np.partition(some, len(part) - count)[len(part) - count]
            part = part[some >= edge]
            some = values[part]
        if len(part) > SORTABLE:
            finite = part[some > -np.inf]
            if len(finite) > SORTABLE:
                return finite, False
            part = finite if len(finite) else part[:1]
            some = values[part]
        order = part[argsort_descending(some)]
    ranked = -values[order]
    end = int(np.searchsorted(ranked, ranked[min(count, len(ranked)) - 1], side="right"))
    if ranked[end - 1] == np.inf:
        end = max(int(np.searchsorted(ranked, np.inf)), 1)
    return order[:end], True


def _bound(values: Floats, count: int) -> np.float32:
    """A value that at least `count` values reach, and not many more if they are distributed evenly.

    The array is treated as a table; of the maxima of its columns, `count` are at least as large as the count-th of
    them.
    """
    columns = max(len(values) // _ROWS, 4 * count)
    rows = len(values) // columns
    if rows < 2:
        count = min(count, len(values))
        return np.float32(np.partition(values, len(values) - count)[len(values) - count])
    best = values[: rows * columns].reshape(rows, columns).max(axis=0)
    return np.float32(np.partition(best, columns - count)[columns - count])


def smallest_top_mass(keys: Floats, weights: Floats, mass: float) -> tuple[Positions | Mask, bool]:
    """The fewest positions with the largest keys whose weights add up to `mass`; at least one.

    Returns positions in descending order of their keys and True; or, if they may be many, a mask and False.
    """
    if len(keys) <= SORTABLE:
        order = argsort_descending(keys)
        return order[: _reach(weights[order], mass)], True
    part = (keys >= _bound(keys, 256)).nonzero()[0]
    head = float(weights[part].sum(dtype=np.float64))
    mass = min(mass, float(weights.sum(dtype=np.float64)) * (1 - 1e-9))  # must be reached despite rounding
    if head < mass:  # all of these are taken: the rest is even enough to be estimated from a sample
        weights = weights.copy()
        weights[part] = 0
        mass -= head
    elif len(part) <= SORTABLE:
        order = part[argsort_descending(keys[part])]
        return order[: _reach(weights[order], mass)], True
    edge, equals = _edge(keys, weights, mass)
    chosen = keys > edge
    chosen[np.flatnonzero(keys == edge)[:equals]] = True
    return chosen, False


def _reach(weights: Floats, mass: float) -> int:
    return min(int(np.searchsorted(np.cumsum(weights, dtype=np.float64), mass)) + 1, len(weights))


def _edge(keys: Floats, weights: Floats, mass: float) -> tuple[np.float32, int]:
    """The smallest key that `smallest_top_mass` takes, and how many of the keys equal to it are taken.

    Quickselect with two pivots, which an evenly spaced sample places on either side of the answer.
    """
    total = float(weights.sum(dtype=np.float64))
    while len(keys) > SORTABLE:
        step = len(keys) // _SAMPLE
        sample = keys[::step]
        order = argsort_descending(sample)
        guess = np.cumsum(weights[::step][order], dtype=np.float64)
        at = int(np.searchsorted(guess, mass / total * guess[-1])) if total > 0 else 0
        above = keys >= sample[order[max(at - _MARGIN, 0)]]
        below = keys < sample[order[min(at + _MARGIN, len(order) - 1)]]
        upper = float((weights * above).sum())
        lower = float((weights * below).sum())
        if upper >= mass:
            part, total = above, upper
        elif total - lower < mass:
            part, mass, total = below, mass - (total - lower), lower
        else:
            part, mass, total = ~(above | below), mass - upper, total - upper - lower
        left = part.nonzero()[0]
        if not len(left):  # by rounding: what is above is just enough
            left = above.nonzero()[0]
            mass = total = upper
        if len(left) == len(keys):
            break  # many equal keys: sort what is left
        keys, weights = keys[left], weights[left]
    order = argsort_descending(keys)
    taken = keys[order[: _reach(weights[order], mass)]]
    return taken[-1], int(np.count_nonzero(taken == taken[-1]))
