"""Adaptive-p (llama.cpp, 2026): prefers tokens whose probability is near a target that depends on earlier choices.

The chosen tokens' probabilities are averaged with a decay, S over W; the next target is 2 * target - S / W. With x = |p
- next target| / 0.3 each candidate's logit becomes 5 - 10 x^2 / (1 + x).
"""

from __future__ import annotations

import numpy as np

from loaders.params import SamplingParams
from loaders.sampling.candidates import Candidates
from loaders.sampling.selection import Floats

_WIDTH = np.float32(0.3)


class AdaptiveP:
    """The step before the draw, which also learns from its result."""

    name = "adaptive_p"

    def __init__(self, target: float, decay: float) -> None:
        self.value = f"{target:g}, decay {decay:g}"
        self._target, self._decay = target, decay
        self._weight = 1 / (1 - decay)
        self._sum = target * self._weight

    @property
    def next_target(self) -> float:
        return min(max(2 * self._target - self._sum / self._weight, 0.0), 1.0)

    def apply(self, c: Candidates) -> Floats:
        """Transform the logits; returns the probabilities before that, for `learn`."""
        before = c.probabilities
        x = np.abs(before - np.float32(self.next_target)) / _WIDTH
        logits = 5 - 10 * x * x / (1 + x)
        logits[c.logits == -np.inf] = -np.inf
        c.replace(logits)
        return before

    @property
    def memory(self) -> tuple[float, float]:
        """What it has learned, for `recall`."""
        return self._sum, self._weight

    def recall(self, memory: tuple[float, float]) -> None:
        """Go back to an earlier `memory`."""
        self._sum, self._weight = memory

    def learn(self, probability: float) -> None:
        """Add the probability of the chosen token."""
        self._sum = probability + self._decay * self._sum
        self._weight = 1 + self._decay * self._weight


def make_adaptive_p(p: SamplingParams) -> AdaptiveP | None:
    """The request's adaptive-p, or None if it is off."""
    return AdaptiveP(p.adaptive_target, p.adaptive_decay) if p.adaptive_target > 0 else None
