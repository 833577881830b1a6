"""Mirostat (Basu 2020): keeps the surprise of the text near tau bits per token by truncating more or less of the tail.

Both versions keep mu, which begins at 2 tau and after each token decreases by eta * (its surprise - tau). The surprise
is that of the token among the candidates it was drawn from.
"""

from __future__ import annotations

import math

import numpy as np

from loaders.params import SamplingParams
from loaders.sampling.candidates import Candidates
from loaders.sampling.selection import Floats, argmax_k
from loaders.sampling.state import SamplerState
from loaders.sampling.truncation import top_k

_FARTHEST = 500.0
_SEEN = 100  # how many of the best tokens version 1 uses for its estimate


class Mirostat:
    """The step before the draw, which also learns from its result."""

    name = "mirostat"

    def __init__(self, mode: int, tau: float, eta: float, n_vocab: int) -> None:
        self.value = f"mode {mode}, tau {tau:g}, eta {eta:g}"
        self._mode, self._tau, self._eta, self._n_vocab = mode, tau, eta, n_vocab
        self.mu = _bounded(2 * tau)

    def apply(self, c: Candidates) -> Floats:
        """Truncate by the current mu; returns the remaining probabilities, for `learn`."""
        if self._mode == 1:
            cut_by_zipf(c, self.mu, self._n_vocab)
        else:
            # -log2 p <= mu, and always the best
            c.keep_above(math.log(c.total) - self.mu * math.log(2))
        return c.probabilities

    @property
    def memory(self) -> tuple[float, float]:
        """What it has learned, for `recall`."""
        return self.mu, 0.0

    def recall(self, memory: tuple[float, float]) -> None:
        """Go back to an earlier `memory`."""
        self.mu = memory[0]

    def learn(self, probability: float) -> None:
        """Correct mu by the probability of the chosen token."""
        surprise = -math.log2(max(probability, 1e-30))
        self.mu = _bounded(self.mu - self._eta * (surprise - self._tau))


def _bounded(mu: float) -> float:
    """Bits; beyond these limits it truncates nothing, or all but the best, and 2^mu would overflow."""
    return max(-_FARTHEST, min(mu, _FARTHEST))


def cut_by_zipf(c: Candidates, mu: float, n_vocab: int) -> None:
    """The truncation of Mirostat 1: assume Zipf's distribution, estimate its exponent, and keep the k that gives mu.

    The estimate is the paper's least-squares one, as in llama.cpp.
    """
    best, _ = argmax_k(c.logits, _SEEN)
    logs = np.sort(c.logits[best])[::-1][:_SEEN].astype(np.float64)
    logs = logs[logs > -np.inf]  # removed tokens have no rank
    if len(logs) < 2:
        return
    ranks = np.arange(1, len(logs))
    t = np.log((ranks + 1) / ranks)
    exponent = float((t * (logs[:-1] - logs[1:])).sum() / (t * t).sum())
    epsilon = exponent - 1
    if abs(epsilon) < 1e-6:
        base = 2**mu / math.log(n_vocab)
    else:
        base = epsilon * 2**mu / (1 - float(n_vocab) ** -epsilon)
    try:
        k = base ** (1 / exponent)
    except (OverflowError, ZeroDivisionError):
        k = math.inf if base > 1 else 1.0
    top_k(c, max(int(min(k, n_vocab)), 1))


def make_mirostat(p: SamplingParams, state: SamplerState) -> Mirostat | None:
    """The request's mirostat, or None if it is off."""
    if not p.mirostat_mode:
        return None
    return Mirostat(p.mirostat_mode, p.mirostat_tau, p.mirostat_eta, state.n_vocab)
