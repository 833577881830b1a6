"""XTC, exclude top choices (p-e-w, 2024): with some probability, removes all likely tokens except the least likely of
them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from loaders.params import SamplingParams
from loaders.sampling.candidates import SLACK, Candidates
from loaders.sampling.state import SamplerState, SamplerStep


def apply_xtc(c: Candidates, threshold: float, protected: frozenset[int]) -> None:
    """Remove every candidate with p >= threshold except the least likely of these.

    Nothing happens if one of the removed would be a protected token (newlines and the end of the text), as in the
    original; llama.cpp has no such rule.
    """
    if threshold > 0:
        above = c.shifted >= np.float32(math.log(threshold * c.total) - SLACK)
    else:
        above = c.logits > -np.inf
    positions = above.nonzero()[0]
    if len(positions) < 2:
        return
    likely = c.logits[positions]
    stays = positions[np.flatnonzero(likely == likely.min())[-1]]
    if not protected.isdisjoint(c.ids[positions[positions != stays]].tolist()):
        return
    above[stays] = False
    c.cut(~above, best_stays=False)


def _xtc(p: SamplingParams, state: SamplerState) -> SamplerStep | None:
    threshold, probability = p.xtc_threshold, p.xtc_probability
    if probability <= 0:
        return None

    def apply(c: Candidates) -> None:
        if state.xtc_draw < probability:
            apply_xtc(c, threshold, state.structure)

    return SamplerStep("xtc", f"{threshold:g}, in {probability:.0%} of the places", apply)


BUILDERS: Mapping[str, Callable[[SamplingParams, SamplerState], SamplerStep | None]] = {"xtc": _xtc}
