"""The samplers that truncate the tail: each keeps some of the candidates, and at least one.

H is the entropy of the candidates in nats, p_max the probability of the best one. A probability within SLACK of a limit
counts as equal to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from loaders.params import SamplingParams
from loaders.sampling.candidates import SLACK, Candidates
from loaders.sampling.selection import SORTABLE, argmax_k, smallest_top_mass
from loaders.sampling.state import SamplerState, SamplerStep

_UNIT = 1e-4  # of epsilon_cutoff and eta_cutoff


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def top_k(c: Candidates, k: int) -> None:
    """The k best, and those equal to the last of them (as transformers; llama.cpp drops these). Off: 0."""
    if k >= len(c):
        return
    if c.sorted:
        k = int(np.searchsorted(-c.logits, -c.logits[k - 1], side="right"))
        c.cut(slice(0, k))
        return
    keep, c_sorted = argmax_k(c.logits, k)
    c.cut(keep)
    c.sorted = c_sorted


def top_p(c: Candidates, p: float) -> None:
    """The fewest of the best whose probabilities add up to p (nucleus sampling, Holtzman 2019). Off: 1."""
    mass = p * c.total * (1 - SLACK)
    if c.sorted:
        count = int(np.searchsorted(np.cumsum(c.exps, dtype=np.float64), mass)) + 1
        c.cut(slice(0, count))
        return
    keep, c_sorted = smallest_top_mass(c.logits, c.exps, mass)
    c.cut(keep)
    c.sorted = c_sorted


def min_p(c: Candidates, share: float) -> None:
    """Keep p >= share * p_max (kalomaze, 2023). Off: 0."""
    c.keep_above(_log(share))


def typical_p(c: Candidates, p: float) -> None:
    """The fewest with the smallest |-ln p - H| that add up to p (locally typical, Meister 2022). Off: 1.

    It may remove the best candidate.
    """
    # -ln p = ln total - shifted
    distance = np.subtract(c.shifted, np.float32(math.log(c.total) - c.entropy), out=c.scratch_temp)
    keys = np.negative(np.abs(distance, out=distance), out=distance)
    keep, ranked = smallest_top_mass(keys, c.exps, p * c.total * (1 - SLACK))
    if ranked:
        keep.sort()  # back to the original order
    c.cut(keep, best_stays=False)


def tfs(c: Candidates, z: float) -> None:
    """Tail-free (Phenix, 2019): sorted by p, keep the first, then while the share of the |second differences| is <= z.

    As in the original, the list continues with zeros for removed tokens, and the last token of the vocabulary is
    removed. (If only the candidates were considered, each call would remove the last of them.) Off: 1.
    """
    count = c.count
    padding = np.zeros(min(c.n_vocab - count, 2))
    if count + len(padding) < 2:
        return
    share = 1e-2
    while not c.sorted and len(c) > SORTABLE:
        # the best ones decide, if the tail's possible contribution to the sum does not move the cutoff
        head = (c.shifted >= np.float32(math.log(share))).nonzero()[0]
        if len(head) > len(c) // 2:
            break
        exps = np.sort(c.exps[head])[::-1].astype(np.float64)
        if len(exps) > 2:
            running = np.cumsum(np.abs(np.diff(exps, 2)))
            least = running[-1] * z * (1 + SLACK)
            most = (running[-1] + exps[-1] + exps[-2]) * z * (1 + SLACK)
            at, limit = (int(np.searchsorted(running, bound, side="right")) for bound in (least, most))
            if at == limit < len(running):
                order = head[np.argsort(-c.logits[head], kind="stable")]
                c.cut(order[: at + 1])
                c.sorted = True
                return
        share /= 64
        if share < 1e-30:
            break
    c.sort()
    exps = np.concatenate([c.exps[:count].astype(np.float64), padding])
    running = np.cumsum(np.abs(np.diff(exps, 2)))
    if len(running) and running[-1] > SLACK:
        keep = 1 + int(np.searchsorted(running, running[-1] * z * (1 + SLACK), side="right"))
    else:  # a straight line has no tail
        keep = len(exps) - 1
    c.cut(slice(0, max(min(keep, len(exps) - 1, count), 1)))


def top_a(c: Candidates, a: float) -> None:
    """Keep p >= a * p_max^2 (BlinkDL). Off: 0."""
    c.keep_above(_log(a / c.total))


def epsilon_cutoff(c: Candidates, epsilon: float) -> None:
    """Keep p >= epsilon (Hewitt 2022), and always the best. Off: 0."""
    c.keep_above(_log(epsilon * c.total))


def eta_cutoff(c: Candidates, eta: float) -> None:
    """Keep p >= min(eta, sqrt(eta) * exp(-H)) (Hewitt 2022), and always the best. Off: 0."""
    c.keep_above(_log(min(eta, math.sqrt(eta) * math.exp(-c.entropy)) * c.total))


def top_n_sigma(c: Candidates, n: float) -> None:
    """Keep logit >= max - n * (standard deviation of the candidates' logits) (Tang 2024). Off: 0.

    The original counts removed tokens as zeros in the deviation; like llama.cpp, this omits them.
    """
    count = np.float32(len(c))
    away = np.subtract(c.logits, np.add.reduce(c.logits) / count, out=c.scratch_temp)
    sigma = math.sqrt(float(np.add.reduce(np.multiply(away, away, out=c.scratch_temp)) / count))
    if not math.isfinite(sigma):  # tokens at -inf, or squares that overflow float32
        sigma = float(c.logits[c.logits > -np.inf].astype(np.float64).std())
    c.keep_above(-n * sigma)


def _top_k(p: SamplingParams, _: SamplerState) -> SamplerStep | None:
    return SamplerStep("top_k", f"{k}", lambda c: top_k(c, k)) if (k := p.top_k) > 0 else None


def _top_p(p: SamplingParams, _: SamplerState) -> SamplerStep | None:
    return SamplerStep("top_p", f"{x:g}", lambda c: top_p(c, x)) if (x := p.top_p) < 1 else None


def _min_p(p: SamplingParams, _: SamplerState) -> SamplerStep | None:
    return SamplerStep("min_p", f"{x:g}", lambda c: min_p(c, x)) if (x := p.min_p) > 0 else None


def _typical_p(p: SamplingParams, _: SamplerState) -> SamplerStep | None:
    return SamplerStep("typical_p", f"{x:g}", lambda c: typical_p(c, x)) if (x := p.typical_p) < 1 else None


def _tfs(p: SamplingParams, _: SamplerState) -> SamplerStep | None:
    return SamplerStep("tfs", f"{x:g}", lambda c: tfs(c, x)) if (x := p.tfs) < 1 else None


def _top_a(p: SamplingParams, _: SamplerState) -> SamplerStep | None:
    return SamplerStep("top_a", f"{x:g}", lambda c: top_a(c, x)) if (x := p.top_a) > 0 else None


def _epsilon(p: SamplingParams, _: SamplerState) -> SamplerStep | None:
    x = p.epsilon_cutoff
    return SamplerStep("epsilon_cutoff", f"{x:g}e-4", lambda c: epsilon_cutoff(c, x * _UNIT)) if x > 0 else None


def _eta(p: SamplingParams, _: SamplerState) -> SamplerStep | None:
    x = p.eta_cutoff
    return SamplerStep("eta_cutoff", f"{x:g}e-4", lambda c: eta_cutoff(c, x * _UNIT)) if x > 0 else None


def _top_n_sigma(p: SamplingParams, _: SamplerState) -> SamplerStep | None:
    return SamplerStep("top_n_sigma", f"{n:g}", lambda c: top_n_sigma(c, n)) if (n := p.top_n_sigma) > 0 else None


BUILDERS: Mapping[str, Callable[[SamplingParams, SamplerState], SamplerStep | None]] = {
    "top_n_sigma": _top_n_sigma,
    "top_k": _top_k,
    "top_p": _top_p,
    "typical_p": _typical_p,
    "epsilon_cutoff": _epsilon,
    "eta_cutoff": _eta,
    "tfs": _tfs,
    "top_a": _top_a,
    "min_p": _min_p,
}
