"""The samplers that transform the whole distribution: temperature, dynamic temperature, quadratic (smooth) sampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from loaders.params import SamplingParams
from loaders.sampling.candidates import Candidates
from loaders.sampling.state import SamplerState, SamplerStep

_COLDEST = 1e-8
_FLATTEST, _STEEPEST = 1e-30, 1e12
_HIGHEST = 1e30  # a logit above which differences are lost


def apply_temperature(c: Candidates, t: float) -> None:
    """Divide the logits by T. Off: 1."""
    c.scale(1 / max(t, _COLDEST))


def apply_dynamic_temperature(c: Candidates, low: float, high: float, exponent: float) -> None:
    """T = low + (high - low) * (H / ln N)^exponent, with N candidates of entropy H (kalomaze, 2023)."""
    count = c.count
    if count > 1:
        certainty = max(c.entropy, 1e-10) / math.log(count)
        apply_temperature(c, low + (high - low) * min(certainty, 1.0) ** exponent)


def apply_quadratic(c: Candidates, factor: float, curve: float) -> None:
    """Logit = max - k d^2 + s d^3, d = logit - max, k = factor (3 - curve) / 2, s = factor (curve - 1) / 2. Off: 0.

    Above curve 3 the curve rises before it falls: another token may become the best one (kalomaze, 2024).
    """
    d = c.shifted
    factor, curve = min(factor, _STEEPEST), max(-_STEEPEST, min(curve, _STEEPEST))  # float32 overflows beyond this
    steepness = np.float32(-factor * (3 - curve) / 2)
    cubic = np.float32(factor * (curve - 1) / 2)
    out = np.multiply(d, d, out=c.scratch_logits)
    if cubic:
        slope = np.multiply(d, cubic, out=c.scratch_temp)
        slope += steepness
        out *= slope
    else:
        out *= steepness
    out += np.float32(c.best)
    if curve > 3:  # values that rise may become too large
        np.minimum(out, np.float32(_HIGHEST), out=out)
    c.replace(out, order_stays=curve <= 3)


def _temperature(p: SamplingParams, _: SamplerState) -> SamplerStep | None:
    t = p.temperature
    if p.dynamic_temperature or t == 1:
        return None
    return SamplerStep("temperature", f"{t:g}", lambda c: apply_temperature(c, t))


def _dynamic_temperature(p: SamplingParams, _: SamplerState) -> SamplerStep | None:
    low, high, exponent = p.dynatemp_low, p.dynatemp_high, p.dynatemp_exponent
    if not p.dynamic_temperature:
        return None
    return SamplerStep(
        "dynamic_temperature", f"{low:g} to {high:g}, exponent {exponent:g}",
        lambda c: apply_dynamic_temperature(c, low, high, exponent),
    )  # fmt: skip


def _quadratic(p: SamplingParams, _: SamplerState) -> SamplerStep | None:
    factor, curve = p.smoothing_factor, p.smoothing_curve
    if factor < _FLATTEST:
        return None
    return SamplerStep(
        "quadratic_sampling", f"{factor:g}, curve {curve:g}", lambda c: apply_quadratic(c, factor, curve)
    )


#: The steps that `temperature_last` moves to the end.
BUILDERS: Mapping[str, Callable[[SamplingParams, SamplerState], SamplerStep | None]] = {
    "temperature": _temperature,
    "dynamic_temperature": _dynamic_temperature,
    "quadratic_sampling": _quadratic,
}


def comes_last(p: SamplingParams, name: str) -> bool:
    """Whether the user wants this step after all others."""
    return p.temperature_last and name in BUILDERS


def is_greedy(p: SamplingParams) -> bool:
    """Whether the most likely token is always taken (greedy)."""
    return not p.do_sample or p.temperature == 0
