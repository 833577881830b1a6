"""The fast samplers compared with the simple reference: ties, removed tokens, tiny and large vocabularies, huge
logits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loaders.params import SAMPLERS, SamplingParams
from loaders.sampling import SamplerChain, temperature, truncation, xtc
from loaders.sampling.candidates import Candidates
from loaders.sampling.selection import argmax_k, smallest_top_mass
from tests.loaders.sampling import reference

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the chain suppresses warnings for -inf

Dense = reference.Dense


@st.composite
def short_logits(draw: st.DrawFn) -> np.ndarray:
    """Up to 40 logits: some equal, some at -inf, all finite ones small or all of them huge."""
    value = st.one_of(
        st.floats(-30, 30, width=32),
        st.integers(-4, 4).map(float),  # ties
        st.just(-np.inf),
    )
    z = np.array(draw(st.lists(value, min_size=1, max_size=40)), np.float32)
    assume(z.max() > -np.inf)
    return z * np.float32(draw(st.sampled_from([1, 1, 1, 0.01, 1e4, 1e30])))


@st.composite
def long_logits(draw: st.DrawFn) -> np.ndarray:
    """More than are sorted at once, in the distributions of models and in unfavourable ones."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    n = draw(st.sampled_from([2049, 5000, 20_000]))
    z = rng.standard_normal(n) * draw(st.sampled_from([0.0, 0.01, 1, 3, 8]))
    peaks = draw(st.sampled_from([0, 1, 50]))
    z[rng.choice(n, peaks, replace=False)] += np.linspace(20, 5, peaks)
    if draw(st.booleans()):
        z = np.round(z * 2) / 2  # many ties
    if draw(st.booleans()):
        z[rng.random(n) < draw(st.sampled_from([0.01, 0.99]))] = -np.inf
        z[0] = 0
    if draw(st.booleans()):
        z = np.sort(z)[:: draw(st.sampled_from([-1, 1]))]
    return z.astype(np.float32)


any_logits = st.one_of(short_logits(), short_logits(), long_logits())
share = st.floats(0.001, 0.999)

CUTS: dict[str, tuple[Callable[..., None], Callable[..., Dense], st.SearchStrategy[float]]] = {
    "top_p": (truncation.top_p, reference.top_p, share),
    "min_p": (truncation.min_p, reference.min_p, share),
    "typical_p": (truncation.typical_p, reference.typical_p, share),
    "tfs": (truncation.tfs, reference.tfs, share),
    "top_a": (truncation.top_a, reference.top_a, share),
    "epsilon_cutoff": (truncation.epsilon_cutoff, reference.epsilon_cutoff, st.floats(1e-6, 0.9)),
    "eta_cutoff": (truncation.eta_cutoff, reference.eta_cutoff, st.floats(1e-6, 0.9)),
    "top_n_sigma": (truncation.top_n_sigma, reference.top_n_sigma, st.floats(0.01, 5)),
}


def dense(c: Candidates) -> Dense:
    """The result, spread over the vocabulary."""
    out = np.full(c.n_vocab, -np.inf)
    out[c.ids] = c.logits
    return out


def same(found: Dense, wanted: Dense) -> None:
    """The same probabilities, whichever of equally likely tokens have them."""
    p, q = reference.softmax(found), reference.softmax(wanted)
    assert np.count_nonzero(found > -np.inf) == np.count_nonzero(wanted > -np.inf)
    assert np.abs(np.sort(p) - np.sort(q)).max() < 1e-4
    assert np.abs(p - q)[(found > -np.inf) & (wanted > -np.inf)].max(initial=0) < 1e-4


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize("ordered", [False, True])
@given(data=st.data(), z=any_logits)
@settings(max_examples=50, deadline=None)
def test_a_cut_keeps_what_the_reference_keeps(name: str, ordered: bool, data: st.DataObject, z: np.ndarray) -> None:
    cut, slow, values = CUTS[name]
    value = data.draw(values)
    # if a slightly moved limit changes the result, either result is right
    part = 1e-2 if name == "tfs" else 1e-5  # its curvature is a difference of differences of float32 values
    lower, upper = (slow(z.astype(np.float64), value * nudge) for nudge in (1 - part, 1 + part))
    assume(((lower > -np.inf) == (upper > -np.inf)).all())
    if name == "typical_p":  # equal distances on the two sides of H differ only in the last bit
        p = reference.softmax(z.astype(np.float64))
        distance = np.abs(-np.log(np.maximum(p, 1e-300)) - reference.entropy(z.astype(np.float64)))
        kept = lower > -np.inf
        assume(kept.all() or distance[kept].max() < distance[~kept].min() - 1e-4 * (1 + distance[kept].max()))
    if name == "tfs":  # the bends of a straight line are noise, and each of many float32 values adds to it
        p = np.sort(reference.softmax(z.astype(np.float64)))[::-1]
        assume(np.abs(np.diff(p, 2)).sum() > max(1e-3, 2e-6 * len(p)) * p[0] or np.ptp(p) == 0)
    if name == "top_n_sigma":  # differences below SLACK count as none
        finite = z[z > -np.inf].astype(np.float64)
        assume(np.ptp(finite) == 0 or value * finite.std() > 1)
    c = Candidates(z)
    if ordered:
        c.sort()
    cut(c, value)
    same(dense(c), lower)
    if c.sorted:
        assert (np.diff(c.logits[: c.count]) <= 0).all()
    assert c.count >= 1
    assert float(c.probabilities.sum()) == pytest.approx(1, abs=1e-4)


@given(z=any_logits, k=st.one_of(st.integers(1, 50), st.integers(1, 30_000)), ordered=st.booleans())
@settings(max_examples=150, deadline=None)
def test_top_k_keeps_what_the_reference_keeps(z: np.ndarray, k: int, ordered: bool) -> None:
    c = Candidates(z)
    if ordered:
        c.sort()
    truncation.top_k(c, k)
    same(dense(c), reference.top_k(z.astype(np.float64), k))


@given(z=any_logits, threshold=share, protected=st.frozensets(st.integers(0, 40), max_size=2))
@settings(max_examples=150, deadline=None)
def test_xtc_removes_what_the_reference_removes(z: np.ndarray, threshold: float, protected: frozenset[int]) -> None:
    lower, upper = (reference.xtc(z.astype(float), threshold * nudge, protected) for nudge in (1 - 1e-5, 1 + 1e-5))
    assume(np.array_equal(lower, upper))
    c = Candidates(z)
    xtc.apply_xtc(c, threshold, protected)
    same(dense(c), lower)


@given(
    z=any_logits,
    low=st.floats(0.1, 5),
    high=st.floats(0.1, 5),
    exponent=st.floats(0.1, 5),
    factor=st.floats(0.01, 10),
    curve=st.floats(1, 10),
)
@settings(max_examples=150, deadline=None)
def test_bent_distributions(
    z: np.ndarray, low: float, high: float, exponent: float, factor: float, curve: float
) -> None:
    assume(np.abs(z[z > -np.inf]).max() < 100)  # beyond this float32 itself is too coarse for 1e-4
    wide = z.astype(np.float64)
    for fast, slow, values in (
        (temperature.apply_temperature, lambda z, t: z / t, (low,)),
        (temperature.apply_dynamic_temperature, reference.dynamic_temperature, (low, high, exponent)),
        (temperature.apply_quadratic, reference.quadratic, (factor, curve)),
    ):
        c = Candidates(z)
        fast(c, *values)
        assert float(c.logits.max()) == c.best
        p, q = np.zeros(len(z)), reference.softmax(slow(wide, *values))
        p[c.ids] = c.probabilities
        assert np.abs(p - q).max() < 1e-4


@given(z=short_logits(), values=st.tuples(*5 * [st.floats(0.01, 5)]))
@settings(max_examples=100, deadline=None)
def test_huge_logits_leave_numbers(z: np.ndarray, values: tuple[float, ...]) -> None:
    c = Candidates(z)
    temperature.apply_temperature(c, values[0])
    temperature.apply_quadratic(c, values[1], 1 + values[2])
    temperature.apply_dynamic_temperature(c, 0.0, values[3], values[4])
    assert np.isfinite(c.best)
    assert not np.isnan(c.probabilities).any()
    assert float(c.probabilities.sum()) == pytest.approx(1, abs=1e-4)


@given(z=long_logits(), count=st.integers(1, 6000))
@settings(max_examples=60, deadline=None)
def test_largest(z: np.ndarray, count: int) -> None:
    found, ordered = argmax_k(z, count)
    values = np.sort(z[z > -np.inf])[::-1]
    wanted = values[values >= values[min(count, len(values)) - 1]]
    assert np.sort(z[found])[::-1].tolist() == wanted.tolist()
    if ordered:
        assert z[found].tolist() == wanted.tolist()


@given(keys=long_logits(), seed=st.integers(0, 99), mass=st.floats(0, 1), power=st.sampled_from([0, 1, 20]))
@settings(max_examples=80, deadline=None)
def test_heaviest(keys: np.ndarray, seed: int, mass: float, power: int) -> None:
    weights = (np.random.default_rng(seed).random(len(keys)) ** power).astype(np.float32)
    total = float(weights.sum(dtype=np.float64))
    found, _ = smallest_top_mass(keys, weights, mass * total)
    chosen = np.zeros(len(keys), bool)
    chosen[found] = True
    assert chosen.any()
    if not chosen.all():
        assert keys[chosen].min() >= keys[~chosen].max()
    # enough, and not enough without the last of them
    heavy = weights[chosen].sum(dtype=np.float64)
    assert heavy >= mass * total * (1 - 1e-5)
    last = np.flatnonzero(chosen & (keys == keys[chosen].min()))[-1]
    assert chosen.sum() == 1 or heavy - weights[last] <= mass * total * (1 + 1e-5)


@st.composite
def settings_of_all(draw: st.DrawFn) -> SamplingParams:
    """Any knobs, each off or on, in any order."""

    def maybe(neutral: float, low: float, high: float) -> float:
        return draw(st.one_of(st.just(neutral), st.just(neutral), st.just(neutral), st.floats(low, high)))

    return SamplingParams(
        temperature=maybe(1, 0.2, 3),
        dynamic_temperature=draw(st.sampled_from([False, False, True])),
        dynatemp_low=draw(st.floats(0.2, 2)),
        dynatemp_high=draw(st.floats(0.2, 2)),
        smoothing_factor=maybe(0, 0.01, 1),
        smoothing_curve=maybe(1, 1, 4),
        top_p=maybe(1, 0.05, 1),
        min_p=maybe(0, 0.001, 0.9),
        top_k=draw(st.sampled_from([0, 0, 0, 1, 3, 20])),
        typical_p=maybe(1, 0.05, 1),
        tfs=maybe(1, 0.05, 1),
        top_a=maybe(0, 0.01, 1),
        epsilon_cutoff=maybe(0, 0.1, 9),
        eta_cutoff=maybe(0, 0.1, 20),
        top_n_sigma=maybe(0, 0.1, 5),
        xtc_probability=draw(st.sampled_from([0.0, 1.0])),
        xtc_threshold=draw(st.floats(0.01, 0.5)),
        repetition_penalty=maybe(1, 0.5, 1.5),
        presence_penalty=maybe(0, -1, 2),
        frequency_penalty=maybe(0, -1, 2),
        repetition_penalty_range=draw(st.integers(1, 64)),
        encoder_repetition_penalty=maybe(1, 0.8, 1.5),
        no_repeat_ngram_size=draw(st.integers(0, 4)),
        dry_multiplier=maybe(0, 0.1, 2),
        sampler_priority=tuple(draw(st.permutations(SAMPLERS))),
    )


@given(
    z=st.one_of(short_logits(), long_logits()),
    params=settings_of_all(),
    prompt=st.lists(st.integers(0, 8), max_size=40),
    protected=st.frozensets(st.integers(0, 40), max_size=1),
    breakers=st.frozensets(st.integers(0, 8), max_size=1),
)
@settings(max_examples=150, deadline=None)
def test_the_chain_does_what_the_reference_does(
    z: np.ndarray, params: SamplingParams, prompt: list[int], protected: frozenset[int], breakers: frozenset[int]
) -> None:
    assume(np.abs(z[z > -np.inf]).max() < 100)
    prompt = [token for token in prompt if token < len(z)]

    def slow(nudge: float) -> Dense:
        wide = z.astype(np.float64)
        return reference.chain(wide, params, prompt, protected=protected, breakers=breakers, nudge=nudge)

    lower, upper = slow(1 - 2e-5), slow(1 + 2e-5)
    wanted = reference.softmax(slow(1))
    chain = SamplerChain(params, n_vocab=len(z), seed=1, prompt_ids=prompt, newline_ids=protected, breaker_ids=breakers)
    ids, p = chain.distribution(z)
    assert p.sum() == pytest.approx(1, abs=1e-4)
    assert len(ids) == len(set(ids.tolist()))
    assume(((lower > -np.inf) == (upper > -np.inf)).all())
    q = np.sort(wanted)[::-1][: len(p)]
    if np.abs(np.sort(p)[::-1] - q).max() > 1e-4:
        # a tie that float32 sees and float64 does not, or the other way round: nearly equal logits in the input
        gaps = np.diff(np.sort(z[z > -np.inf]))
        assume(not (gaps < 1e-3).any())
        assume(params.typical_p == 1 and params.tfs == 1)
        raise AssertionError(f"{np.sort(p)[::-1][:10]} is not {q[:10]}")


@given(z=any_logits, seed=st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_the_stages_end_in_what_is_drawn_from(z: np.ndarray, seed: int) -> None:
    params = SamplingParams(temperature=0.8, top_p=0.9, min_p=0.02, repetition_penalty=1.1)
    chain = SamplerChain(params, n_vocab=len(z), seed=seed, prompt_ids=[0])
    stages = chain.stages(z)
    ids, p = chain.distribution(z)
    assert stages[-1].kept == len(ids)
    known = dict(zip(ids.tolist(), p.tolist(), strict=True))
    for token, probability in stages[-1].top:
        assert known[token] == pytest.approx(probability, abs=1e-5)
    assert [stage.name for stage in stages] == ["model", "repetition_penalty", "temperature", "top_p", "min_p"]
    assert sum(stage.removed for stage in stages) == stages[0].kept - stages[-1].kept
    assert chain.choose(z) in known
