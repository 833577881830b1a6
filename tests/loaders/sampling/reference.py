"""Every sampler in its simplest form: the whole vocabulary in float64, fully sorted, removed tokens at -inf.

What the fast stack is held against. `nudge` moves each bound a little, so that a test can tell where an answer hangs on
the last bit of a float and leave such a case alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.params import SAMPLERS, SamplingParams

Dense = npt.NDArray[np.float64]


def softmax(z: Dense) -> Dense:
    with np.errstate(all="ignore"):
        e = np.exp(z - z.max())
    return e / e.sum()


def entropy(z: Dense) -> float:
    p = softmax(z)
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def descending(key: Dense) -> npt.NDArray[np.intp]:
    return np.argsort(-key, kind="stable")


def only(z: Dense, keep: npt.NDArray[Any]) -> Dense:
    """`keep`: a mask or positions."""
    out = np.full_like(z, -np.inf)
    out[keep] = z[keep]
    return out


def at_least(z: Dense, bound: float) -> Dense:
    """Keep p >= limit, and the best."""
    p = softmax(z)
    return only(z, ((p >= bound) | (z == z.max())) & (z > -np.inf))


def top_k(z: Dense, k: int) -> Dense:
    return only(z, z >= np.sort(z)[::-1][min(k, len(z)) - 1])


def top_p(z: Dense, mass: float) -> Dense:
    order = descending(z)
    p = softmax(z)[order]
    before = np.cumsum(p) - p
    return only(z, order[(before < mass) & (p > 0) | (np.arange(len(z)) == 0)])


def min_p(z: Dense, share: float) -> Dense:
    return at_least(z, share * softmax(z).max())


def typical_p(z: Dense, mass: float) -> Dense:
    p = softmax(z)
    with np.errstate(all="ignore"):
        distance = np.abs(-np.log(p) - entropy(z))
    order = descending(-distance)
    before = np.cumsum(p[order]) - p[order]
    return only(z, order[(before < mass) & (p[order] > 0) | (np.arange(len(z)) == 0)])


def tfs(z: Dense, bound: float) -> Dense:
    if len(z) < 2 or np.count_nonzero(z > -np.inf) == 1:
        return z
    order = descending(z)
    p = softmax(z)[order]
    bends = np.abs(np.diff(p, 2))
    shares = np.cumsum(bends) / bends.sum() if bends.sum() > 1e-6 * p[0] else np.zeros(len(bends))
    keep = np.concatenate([[True], shares <= bound, [False]])[: len(z)]
    keep[0] = True
    return only(z, order[keep])


def top_a(z: Dense, a: float) -> Dense:
    return at_least(z, a * softmax(z).max() ** 2)


def epsilon_cutoff(z: Dense, epsilon: float) -> Dense:
    return at_least(z, epsilon)


def eta_cutoff(z: Dense, eta: float) -> Dense:
    return at_least(z, min(eta, math.sqrt(eta) * math.exp(-entropy(z))))


def top_n_sigma(z: Dense, n: float) -> Dense:
    return only(z, (z >= z.max() - n * z[z > -np.inf].std()) & (z > -np.inf))


def dynamic_temperature(z: Dense, low: float, high: float, exponent: float) -> Dense:
    count = np.count_nonzero(z > -np.inf)
    if count == 1:
        return z
    return z / (low + (high - low) * min(max(entropy(z), 1e-10) / math.log(count), 1) ** exponent)


def quadratic(z: Dense, factor: float, curve: float) -> Dense:
    d = np.where(z > -np.inf, z - z.max(), 0)
    bent = z.max() - factor * (3 - curve) / 2 * d**2 + factor * (curve - 1) / 2 * d**3
    return np.where(z > -np.inf, bent, -np.inf)


def xtc(z: Dense, threshold: float, protected: frozenset[int]) -> Dense:
    p = softmax(z)
    above = [i for i in descending(z) if p[i] >= threshold and p[i] > 0]
    removed = above[:-1]
    if protected & set(removed):
        return z
    out = z.copy()
    out[removed] = -np.inf
    return out


def repetition(z: Dense, window: Sequence[int], factor: float) -> Dense:
    out = z.copy()
    for token in set(window):
        out[token] = out[token] * factor if out[token] < 0 else out[token] / factor
    return out


def additive(z: Dense, window: Sequence[int], presence: float, frequency: float) -> Dense:
    out = z.copy()
    for token in set(window):
        out[token] -= presence + frequency * list(window).count(token)
    return out


def no_repeat_ngram(z: Dense, tokens: Sequence[int], size: int) -> Dense:
    out = z.copy()
    end = list(tokens[len(tokens) - size + 1 :]) if size > 1 else []
    for i in range(len(tokens) - size + 1):
        if list(tokens[i : i + size - 1]) == end:
            out[tokens[i + size - 1]] = -np.inf
    return out if (out > -np.inf).any() else only(z, np.array([z.argmax()]))


def dry_lengths(window: Sequence[int], breakers: frozenset[int], longest: int = 50) -> dict[int, int]:
    """For each token that would extend a repetition: the longest sequence before it that equals the end."""
    found: dict[int, int] = {}
    if not window or window[-1] in breakers:
        return found
    last = len(window) - 1
    for i in range(last):
        n = 0
        while i - n >= 0 and window[i - n] == window[last - n] and window[i - n] not in breakers and n < longest:
            n += 1
        if n:
            found[window[i + 1]] = max(found.get(window[i + 1], 0), n)
    return found


def dry(
    z: Dense, window: Sequence[int], multiplier: float, base: float, allowed: int, breakers: frozenset[int]
) -> Dense:
    out = z.copy()
    for token, n in dry_lengths(window, breakers).items():
        if n >= allowed:
            out[token] -= multiplier * base ** (n - allowed)
    return out


def chain(
    z: Dense,
    p: SamplingParams,
    prompt: Sequence[int],
    *,
    protected: frozenset[int] = frozenset(),
    breakers: frozenset[int] = frozenset(),
    nudge: float = 1.0,
) -> Dense:
    """All samplers in the given complete order, with XTC active; the result has z > -inf."""
    assert set(p.sampler_priority) == set(SAMPLERS)
    window = prompt[-p.repetition_penalty_range :]
    for name in p.sampler_priority:
        match name:
            case "repetition_penalty":
                z = repetition(z, window, p.repetition_penalty)
            case "presence_penalty":
                z = additive(z, window, p.presence_penalty, 0)
            case "frequency_penalty":
                z = additive(z, window, 0, p.frequency_penalty)
            case "dry" if p.dry_multiplier:
                z = dry(z, window, p.dry_multiplier, p.dry_base, p.dry_allowed_length, breakers)
            case "encoder_repetition_penalty":
                z = repetition(z, prompt, 1 / p.encoder_repetition_penalty)
            case "no_repeat_ngram" if p.no_repeat_ngram_size:
                z = no_repeat_ngram(z, prompt, p.no_repeat_ngram_size)
            case "temperature" if not p.dynamic_temperature:
                z = z / p.temperature
            case "dynamic_temperature" if p.dynamic_temperature:
                z = dynamic_temperature(z, p.dynatemp_low, p.dynatemp_high, p.dynatemp_exponent)
            case "quadratic_sampling" if p.smoothing_factor:
                z = quadratic(z, p.smoothing_factor, p.smoothing_curve)
            case "top_k" if p.top_k:
                z = top_k(z, p.top_k)
            case "top_p" if p.top_p < 1:
                z = top_p(z, p.top_p * nudge)
            case "min_p" if p.min_p:
                z = min_p(z, p.min_p * nudge)
            case "typical_p" if p.typical_p < 1:
                z = typical_p(z, p.typical_p * nudge)
            case "tfs" if p.tfs < 1:
                z = tfs(z, p.tfs * nudge)
            case "top_a" if p.top_a:
                z = top_a(z, p.top_a * nudge)
            case "epsilon_cutoff" if p.epsilon_cutoff:
                z = epsilon_cutoff(z, p.epsilon_cutoff * 1e-4 * nudge)
            case "eta_cutoff" if p.eta_cutoff:
                z = eta_cutoff(z, p.eta_cutoff * 1e-4 * nudge)
            case "top_n_sigma" if p.top_n_sigma:
                z = top_n_sigma(z, p.top_n_sigma * nudge)
            case "xtc" if p.xtc_probability:
                z = xtc(z, p.xtc_threshold * nudge, protected)
    return z
