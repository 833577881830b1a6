"""The tokens that may still be chosen, with their logits: the input and output of every sampler.

It starts as a view of the model's whole vocabulary, which it never writes to, and becomes a short list at the first
truncation. Exponentials are computed on demand and kept until a logit changes. Probabilities are always relative to the
remaining candidates. It must not know of any sampler or knob.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import numpy.typing as npt

from loaders.sampling.selection import SORTABLE, Floats, Mask, Positions, argsort_descending

Ids = npt.NDArray[np.int64]

#: A probability this close to a limit, relatively, counts as equal: float32 logits are no more precise.
SLACK = 2e-6
_LARGEST = np.float32(1e37)  # no sampler raises a logit above this, so that none becomes infinite
_EXACT = 256.0  # below this a float32 logit plus a limit is precise enough to compare with


class SamplerBuffers:
    """Arrays of the vocabulary's size, created once per request: only one full set of candidates may use them."""

    def __init__(self, n_vocab: int) -> None:
        self.logits: Floats = np.empty(n_vocab, np.float32)
        self.shifted: Floats = np.empty(n_vocab, np.float32)
        self.exps: Floats = np.empty(n_vocab, np.float32)
        self.spare: Floats = np.empty(n_vocab, np.float32)

    @cached_property
    def ids(self) -> Ids:
        return np.arange(len(self.logits), dtype=np.int64)

    @cached_property
    def slots(self) -> Ids:
        return np.zeros(len(self.logits), dtype=np.int64)


class Candidates:
    """Token ids and logits. A logit of -inf is a removed token that is still in the list."""

    def __init__(self, logits: Floats, scratch: SamplerBuffers | None = None) -> None:
        """`logits` holds the whole vocabulary in the order of ids; it is only read."""
        self._scratch = scratch or SamplerBuffers(len(logits))
        self._logits = logits
        self._borrowed = True
        self._ids: Ids | None = None  # all of the vocabulary
        self.sorted = False  # from the best logit to the worst
        self._best: float | None = None
        self._shifted: Floats | None = None
        self._exps: Floats | None = None
        self._total: float | None = None
        self._entropy: float | None = None

    def __len__(self) -> int:
        return len(self._logits)

    @property
    def n_vocab(self) -> int:
        return len(self._scratch.logits)

    @property
    def ids(self) -> Ids:
        return self._scratch.ids if self._ids is None else self._ids

    @property
    def logits(self) -> Floats:
        """Read-only: changes go through `put`, `scale` and `replace`."""
        return self._logits

    @property
    def count(self) -> int:
        """How many candidates are left (without those at -inf)."""
        return int(np.count_nonzero(self._logits > -np.inf))

    @property
    def best(self) -> float:
        """The largest logit; NaN when any is NaN."""
        if self._best is None:
            self._best = float(self._logits[0] if self.sorted else np.maximum.reduce(self._logits))
        return self._best

    @property
    def shifted(self) -> Floats:
        """Logits minus the best one: ln(p / p_max)."""
        if self._shifted is None:
            out = self._scratch.shifted if self._ids is None else None
            self._shifted = np.subtract(self._logits, np.float32(self.best), out=out)
        return self._shifted

    @property
    def exps(self) -> Floats:
        """Probabilities times `total`; the best candidate has 1."""
        if self._exps is None:
            self._exps = np.exp(self.shifted, out=self._scratch.exps if self._ids is None else None)
        return self._exps

    @property
    def total(self) -> float:
        """The sum of `exps`: 1 / p_max."""
        if self._total is None:
            self._total = float(np.add.reduce(self.exps))
        return self._total

    @property
    def probabilities(self) -> Floats:
        return self.exps / np.float32(self.total)

    @property
    def entropy(self) -> float:
        """H = -sum(p ln p), in nats."""
        if self._entropy is None:
            moment = float(np.add.reduce(np.multiply(self.exps, self.shifted, out=self.scratch_temp)))
            if math.isnan(moment):  # 0 * -inf: removed tokens contribute nothing
                moment = float((self.exps * np.maximum(self.shifted, -1e4)).sum())
            self._entropy = max(math.log(self.total) - moment / self.total, 0.0)
        return self._entropy

    def sort(self) -> None:
        """Order from the best to the worst; equal ones keep their order."""
        if not self.sorted:
            self.cut(argsort_descending(self._logits))
            self.sorted = True

    def cut(self, keep: Positions | Mask | slice, *, best_stays: bool = True) -> None:
        """Keep only these positions, in this order; or where a mask is true.

        `best_stays`: the best candidate is certainly among them.
        """
        if not isinstance(keep, slice) and keep.dtype == bool:
            kept = int(np.count_nonzero(keep))
            if kept == len(self):
                return
            if self._ids is None and kept > max(len(self) // 8, SORTABLE):  # cheaper than gathering this many
                self._blank(np.asarray(keep, np.bool_), best_stays)
                return
            keep = keep.nonzero()[0]
        ids = self.ids[keep]
        self._logits = self._logits[keep]
        self._borrowed = False
        self._total = self._entropy = None
        if best_stays:
            self._shifted = None if self._shifted is None else self._shifted[keep]
            self._exps = None if self._exps is None else self._exps[keep]
        else:
            self._best = self._shifted = self._exps = None
        self._ids = ids

    def _blank(self, keep: Mask, best_stays: bool) -> None:
        """Keep the others in the list as removed ones. Without branches, because these masks are hard to predict."""
        limit = np.subtract(keep, np.float32(0.5), out=self._scratch.spare)
        limit *= np.inf
        self.replace(np.minimum(self._logits, limit, out=self._scratch.logits), best_stays=best_stays)

    def keep_above(self, bound: float) -> None:
        """Keep where ln(p / p_max) >= bound, and always the best one."""
        bound = min(bound - SLACK, 0.0)
        if self._shifted is None and abs(self.best) < _EXACT:
            mask = self._logits >= np.float32(self.best + bound)
        else:
            mask = self.shifted >= np.float32(bound)
        self.cut(slice(0, int(np.count_nonzero(mask))) if self.sorted else mask)

    def where(self, tokens: Ids) -> tuple[Ids, npt.NDArray[np.intp] | None]:
        """The positions of those of these tokens that are candidates, and which of them they are (None: all)."""
        if self._ids is None:
            return tokens, None
        slots = self._scratch.slots
        slots[self._ids] = np.arange(len(self._ids))
        at = slots[tokens]
        at[at >= len(self._ids)] = 0  # left there by an earlier, longer list
        which = (self._ids[at] == tokens).nonzero()[0]
        return at[which], which

    @property
    def scratch_logits(self) -> Floats | None:
        """A buffer for new logits of all candidates, if one exists already."""
        return self._scratch.logits if self._ids is None else None

    @property
    def scratch_temp(self) -> Floats | None:
        """A buffer for temporary values."""
        return self._scratch.spare if self._ids is None else None

    def copied(self) -> Floats:
        """The logits in a separate array, to be changed and passed to `replace`."""
        if self._borrowed:
            np.copyto(self._scratch.logits, self._logits)
            self._logits = self._scratch.logits
            self._borrowed = False
        return self._logits

    def put(self, positions: Ids, logits: Floats) -> None:
        """Write a few logits. If no candidate would be left, the best of these is restored."""
        out = self.copied()
        old = out[positions]
        out[positions] = logits = np.minimum(logits, _LARGEST)
        self._changed()
        if np.minimum.reduce(logits) == -np.inf and self.best == -np.inf:
            last = int(old.argmax())
            out[positions[last]] = old[last]
            self._changed()

    def scale(self, factor: float) -> None:
        """Multiply the logits by a positive factor: the order does not change."""
        best = self.best * factor
        if abs(best) > _LARGEST:  # only the differences matter: shift them to begin at zero
            self.replace(self.shifted * np.float32(min(factor, 1e30)), order_stays=True)
            return
        self.replace(np.multiply(self._logits, np.float32(factor), out=self.scratch_logits), order_stays=True)

    def replace(self, logits: Floats, *, order_stays: bool = False, best_stays: bool = False) -> None:
        """New logits for all candidates, in an array that the caller no longer uses."""
        ordered, best = self.sorted and order_stays, self._best if best_stays else None
        self._logits = logits
        self._borrowed = False
        self._changed()
        self.sorted, self._best = ordered, best

    def pick(self, chance: float) -> int:
        """The position at which the cumulative probability exceeds `chance` (0 to 1, exclusive)."""
        exps = self.exps
        if len(exps) == 1:
            return 0
        start = 0
        if len(exps) > 4096:
            # float32 cumulative sums would lose the tail, float64 ones are slow: find the block first
            width = 512
            edges = np.arange(0, len(exps), width)
            blocks = np.cumsum(np.add.reduceat(exps, edges), dtype=np.float64)
            target = chance * float(blocks[-1])
            block = _passes(blocks, target)
            start = block * width
            target -= float(blocks[block - 1]) if block else 0.0
            sums = np.cumsum(exps[start : start + width], dtype=np.float64)
        else:
            sums = np.cumsum(exps, dtype=np.float64)
            target = chance * float(sums[-1])
        return start + _passes(sums, target)

    def _changed(self) -> None:
        self._best = self._shifted = self._exps = self._total = self._entropy = None
        self.sorted = False


def _passes(sums: npt.NDArray[np.float64], target: float) -> int:
    """The first position whose cumulative sum exceeds the target; at the very end, the last one that adds to it."""
    at = int(np.searchsorted(sums, target, side="right"))
    return at if at < len(sums) else int(np.searchsorted(sums, sums[-1]))
