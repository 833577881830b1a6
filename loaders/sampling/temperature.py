"""The samplers that bend the whole distribution: temperature, dynamic temperature, quadratic (smooth) sampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from loaders.params import SamplingParams
from loaders.sampling.candidates import Candidates
from loaders.sampling.run import Run, Step

_COLDEST = 1e-8
_FLATTEST, _STEEPEST = 1e-30, 1e12
_HIGHEST = 1e30  # a logit above which differences are lost


def temperature(c: Candidates, t: float) -> None:
    """Divide the logits by T. Off: 1."""
    c.scale(1 / max(t, _COLDEST))


def dynamic_temperature(c: Candidates, low: float, high: float, exponent: float) -> None:
    """T = low + (high - low) * (H / ln N)^exponent, with N candidates of entropy H (kalomaze, 2023)."""
    count = c.count
    if count > 1:
        certainty = max(c.entropy, 1e-10) / math.log(count)
        temperature(c, low + (high - low) * min(certainty, 1.0) ** exponent)


def quadratic(c: Candidates, factor: float, curve: float) -> None:
    """Logit = max - k d^2 + s d^3, d = logit - max, k = factor (3 - curve) / 2, s = factor (curve - 1) / 2. Off: 0.

    Above curve 3 the curve rises before it falls: another token may become the best one (kalomaze, 2024).
    """
    d = c.shifted
    factor, curve = min(factor, _STEEPEST), max(-_STEEPEST, min(curve, _STEEPEST))  # beyond float32 lies no number
    steepness = np.float32(-factor * (3 - curve) / 2)
    cubic = np.float32(factor * (curve - 1) / 2)
    out = np.multiply(d, d, out=c.room)
    if cubic:
        slope = np.multiply(d, cubic, out=c.spare)
        slope += steepness
        out *= slope
    else:
        out *= steepness
    out += np.float32(c.best)
    if curve > 3:  # what rises may rise too far
        np.minimum(out, np.float32(_HIGHEST), out=out)
    c.replace(out, order_stays=curve <= 3)


def _temperature(p: SamplingParams, _: Run) -> Step | None:
    t = p.temperature
    if p.dynamic_temperature or t == 1:
        return None
    return Step("temperature", f"{t:g}", lambda c: temperature(c, t))


def _dynamic_temperature(p: SamplingParams, _: Run) -> Step | None:
    low, high, exponent = p.dynatemp_low, p.dynatemp_high, p.dynatemp_exponent
    if not p.dynamic_temperature:
        return None
    return Step(
        "dynamic_temperature", f"{low:g} to {high:g}, exponent {exponent:g}",
        lambda c: dynamic_temperature(c, low, high, exponent),
    )  # fmt: skip


def _quadratic(p: SamplingParams, _: Run) -> Step | None:
    factor, curve = p.smoothing_factor, p.smoothing_curve
    if factor < _FLATTEST:
        return None
    return Step("quadratic_sampling", f"{factor:g}, curve {curve:g}", lambda c: quadratic(c, factor, curve))


#: The steps that `temperature_last` moves to the end.
BUILDERS: Mapping[str, Callable[[SamplingParams, Run], Step | None]] = {
    "temperature": _temperature,
    "dynamic_temperature": _dynamic_temperature,
    "quadratic_sampling": _quadratic,
}


def comes_last(p: SamplingParams, name: str) -> bool:
    """Whether the user wants this step after all others."""
    return p.temperature_last and name in BUILDERS


def without_chance(p: SamplingParams) -> bool:
    """Whether the most likely token is always taken (greedy)."""
    return not p.do_sample or p.temperature == 0
