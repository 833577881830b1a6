"""Each sampler on four candidates, with results that can be computed by hand.

Most take p = 0.4, 0.3, 0.2, 0.1, given as logits ln p (in another order, so that sorting is tested too).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from loaders.params import SamplingParams
from loaders.sampling import adaptive, dry, mirostat, penalties, temperature, truncation, xtc
from loaders.sampling.candidates import Candidates
from loaders.sampling.state import SamplerState

P = (0.2, 0.4, 0.1, 0.3)  # tokens 0 to 3


def logits(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def candidates(*p: float) -> Candidates:
    with np.errstate(divide="ignore"):
        return Candidates(np.log(np.array(p)).astype(np.float32))


def left(c: Candidates) -> dict[int, float]:
    return {int(i): float(p) for i, p, z in zip(c.ids, c.probabilities, c.logits, strict=True) if z > -np.inf}


def close(found: Mapping[int, float], wanted: Mapping[int, float]) -> bool:
    return found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("cut", "wanted"),
    [
        # the two best, 0.4 and 0.3, scaled up to 1
        (lambda c: truncation.top_k(c, 2), {1: 4 / 7, 3: 3 / 7}),
        (lambda c: truncation.top_k(c, 1), {1: 1.0}),
        (lambda c: truncation.top_k(c, 9), {0: 0.2, 1: 0.4, 2: 0.1, 3: 0.3}),
        # 0.4 + 0.3 reach 0.7; 0.71 needs 0.2 as well; nothing needs less than the best
        (lambda c: truncation.top_p(c, 0.7), {1: 4 / 7, 3: 3 / 7}),
        (lambda c: truncation.top_p(c, 0.71), {1: 4 / 9, 3: 3 / 9, 0: 2 / 9}),
        (lambda c: truncation.top_p(c, 0.0), {1: 1.0}),
        # 0.5 * 0.4 = 0.2 is still kept; 0.75 * 0.4 = 0.3; at 1 the best alone
        (lambda c: truncation.min_p(c, 0.5), {1: 4 / 9, 3: 3 / 9, 0: 2 / 9}),
        (lambda c: truncation.min_p(c, 0.75), {1: 4 / 7, 3: 3 / 7}),
        (lambda c: truncation.min_p(c, 1.0), {1: 1.0}),
        # 1 * 0.4^2 = 0.16 removes 0.1
        (lambda c: truncation.top_a(c, 1.0), {1: 4 / 9, 3: 3 / 9, 0: 2 / 9}),
        (lambda c: truncation.epsilon_cutoff(c, 0.25), {1: 4 / 7, 3: 3 / 7}),
        # beyond the best's probability the best stays
        (lambda c: truncation.epsilon_cutoff(c, 0.9), {1: 1.0}),
        # H = -sum(p ln p) = 1.2799, exp(-H) = 0.2781: min(0.5, sqrt(0.5) * 0.2781 = 0.1966) removes 0.1 alone
        (lambda c: truncation.eta_cutoff(c, 0.5), {1: 4 / 9, 3: 3 / 9, 0: 2 / 9}),
        # min(0.04, sqrt(0.04) * 0.2781 = 0.0556) = 0.04 removes none
        (lambda c: truncation.eta_cutoff(c, 0.04), {0: 0.2, 1: 0.4, 2: 0.1, 3: 0.3}),
        # -ln p = 1.609, 0.916, 2.303, 1.204 and H = 1.280: distances 0.329, 0.364, 1.023, 0.076 rank them 0.3, 0.2, 0.4
        (lambda c: truncation.typical_p(c, 0.3), {3: 1.0}),
        (lambda c: truncation.typical_p(c, 0.5), {3: 0.6, 0: 0.4}),
        (lambda c: truncation.typical_p(c, 0.51), {3: 3 / 9, 0: 2 / 9, 1: 4 / 9}),
        # the four lie on a straight line and are the whole vocabulary: no bend, and the last one always goes
        (lambda c: truncation.tfs(c, 0.9), {1: 4 / 9, 3: 3 / 9, 0: 2 / 9}),
        # XTC: 0.4 and 0.3 and 0.2 are at least 0.2, the least of them stays
        (lambda c: xtc.apply_xtc(c, 0.2, frozenset()), {0: 2 / 3, 2: 1 / 3}),
        (lambda c: xtc.apply_xtc(c, 0.35, frozenset()), {0: 0.2, 1: 0.4, 2: 0.1, 3: 0.3}),
        # token 3 would go and is a newline: nothing goes; token 0 would have stayed anyhow
        (lambda c: xtc.apply_xtc(c, 0.2, frozenset({3})), {0: 0.2, 1: 0.4, 2: 0.1, 3: 0.3}),
        (lambda c: xtc.apply_xtc(c, 0.2, frozenset({0})), {0: 2 / 3, 2: 1 / 3}),
        # T = 0.5 squares: 0.16, 0.09, 0.04, 0.01 of 0.3
        (lambda c: temperature.apply_temperature(c, 0.5), {1: 16 / 30, 3: 9 / 30, 0: 4 / 30, 2: 1 / 30}),
    ],
)  # fmt: skip
def test_cuts_of_four(cut: Callable[[Candidates], None], wanted: dict[int, float]) -> None:
    c = candidates(*P)
    cut(c)
    assert close(left(c), wanted)
    c = candidates(*P)
    c.sort()
    cut(c)
    assert close(left(c), wanted)


def test_tfs_keeps_where_the_curve_bends_little() -> None:
    # sorted 0.5, 0.3, 0.15, 0.05: steps -0.2, -0.15, -0.1; bends 0.05, 0.05; shares 0.5, 1
    for z, kept in ((0.4, {1}), (0.5, {1, 2}), (0.9, {1, 2}), (0.999, {1, 2})):
        c = candidates(0.15, 0.5, 0.3, 0.05)
        truncation.tfs(c, z)
        assert set(left(c)) == kept


def test_tfs_goes_on_with_the_zeros_of_removed_tokens() -> None:
    # 0.5, 0.3, 0.2 and one at 0: steps -0.2, -0.1, -0.2; bends 0.1, 0.1; the last token of all is the one at 0
    c = candidates(0.5, 0.0, 0.2, 0.3)
    truncation.tfs(c, 0.5)
    assert set(left(c)) == {0, 3}
    # with room for two zeros: steps -0.2, -0.1, -0.2, 0; bends 0.1, 0.1, 0.2; shares 0.25, 0.5, 1
    c = candidates(0.5, 0.0, 0.2, 0.3, 0.0)
    truncation.tfs(c, 0.5)
    assert set(left(c)) == {0, 3, 2}


def test_top_n_sigma() -> None:
    # logits 4, 2, 0, -2: mean 1, deviation sqrt((9 + 1 + 1 + 9) / 4) = 2.236
    for n, kept in ((0.5, {0}), (0.9, {0, 1}), (1.8, {0, 1, 2}), (3, {0, 1, 2, 3})):
        c = Candidates(logits(4, 2, 0, -2))
        truncation.top_n_sigma(c, n)
        assert set(left(c)) == kept
    # removed tokens have no part in the deviation: of 4 and 0 it is 2, so 4 - 2 * 2 = 0 is kept
    c = Candidates(logits(4, -math.inf, 0, -math.inf))
    with np.errstate(invalid="ignore"):
        truncation.top_n_sigma(c, 2)
    assert set(left(c)) == {0, 2}


def test_dynamic_temperature() -> None:
    # all alike: H = H_max, so T = high; nearly certain: H near 0, so T = low
    c = Candidates(logits(1, 1, 1, 1))
    temperature.apply_dynamic_temperature(c, 0.5, 2.0, 1.0)
    assert c.logits.tolist() == [0.5] * 4
    c = Candidates(logits(100, 0, 0, 0))
    temperature.apply_dynamic_temperature(c, 0.5, 2.0, 1.0)
    assert c.logits.tolist() == [200, 0, 0, 0]
    # p = 0.4, 0.3, 0.2, 0.1: H = 1.27985, H_max = ln 4 = 1.38629: T = 0.5 + 1.5 * 0.92322^2 = 1.77851
    c = candidates(*P)
    temperature.apply_dynamic_temperature(c, 0.5, 2.0, 2.0)
    assert c.logits == pytest.approx(np.log(P) / 1.77851, abs=1e-4)


def test_quadratic_sampling() -> None:
    # factor 0.5, curve 1: k = 0.5, s = 0: 3 - 0.5 d^2 with d = 0, -1, -2, -3
    c = Candidates(logits(3, 2, 1, 0))
    temperature.apply_quadratic(c, 0.5, 1)
    assert c.logits.tolist() == [3, 2.5, 1, -1.5]
    # curve 2: k = 0.25, s = 0.25: 3 - 0.25 d^2 + 0.25 d^3
    c = Candidates(logits(3, 2, 1, 0))
    temperature.apply_quadratic(c, 0.5, 2)
    assert c.logits.tolist() == [3, 2.5, 0, -6]
    # curve 5: k = -0.5, s = 1: 3 + 0.5 d^2 + d^3: at d = -0.25 that is 3.015625, which is the best one now
    c = Candidates(logits(3, 2.75, 1, -math.inf))
    c.sort()
    temperature.apply_quadratic(c, 0.5, 5)
    assert c.logits.tolist() == [3, 3.015625, -3, -math.inf]
    assert c.best == 3.015625
    assert not c.sorted


def test_penalties() -> None:
    window = np.array([0, 2])
    c = Candidates(logits(2, 2, -2, -2))
    penalties.apply_repetition_penalty(c, window, 2.0)  # a positive logit halved, a negative one doubled
    assert c.logits.tolist() == [1, 2, -4, -2]
    c = Candidates(logits(2, 2, -2, -2))
    penalties.apply_additive_penalty(c, window, 0.5)
    assert c.logits.tolist() == [1.5, 2, -2.5, -2]
    c = Candidates(logits(2, 2, -2, -2))
    penalties.apply_additive_penalty(c, window, np.array([3, 1], np.float32) * np.float32(0.5))  # three times and once
    assert c.logits.tolist() == [0.5, 2, -2.5, -2]


def test_the_input_is_never_written_to() -> None:
    z = logits(2, 2, -2, -2)
    z.flags.writeable = False
    c = Candidates(z)
    penalties.apply_additive_penalty(c, np.array([1]), 1.0)
    temperature.apply_temperature(c, 0.5)
    assert c.logits.tolist() == [4, 2, -4, -4]
    assert z.tolist() == [2, 2, -2, -2]


def test_penalties_find_their_tokens_among_cut_candidates() -> None:
    c = Candidates(logits(1, 5, 2, 4, 3))
    truncation.top_k(c, 3)
    assert c.ids.tolist() == [1, 3, 4]
    penalties.apply_additive_penalty(c, np.array([0, 2, 3, 4]), np.array([9, 9, 1, 2], np.float32))
    assert dict(zip(c.ids.tolist(), c.logits.tolist(), strict=True)) == {1: 5, 3: 3, 4: 1}


@pytest.mark.parametrize(
    ("size", "tokens", "banned"),
    [
        (1, [3, 1, 3], [1, 3]),
        (2, [1, 2, 3, 1], [2]),  # 1 was followed by 2
        (3, [1, 2, 3, 0, 2, 3, 1, 2], [3]),  # 1 2 was followed by 3
        (3, [2, 3, 0, 2, 3, 1, 2, 3], [0, 1]),
        (3, [1, 2], []),
        (4, [1, 1, 1, 1], [1]),
        (2, [1, -1, 1], []),  # what is not in the vocabulary cannot be banned
    ],
)
def test_no_repeat_ngram(size: int, tokens: list[int], banned: list[int]) -> None:
    assert penalties.ngram_completions(np.array(tokens), size).tolist() == banned


def test_a_ban_of_all_that_is_left_leaves_the_best() -> None:
    c = Candidates(logits(2, 3, 1, -math.inf))
    penalties.ban_tokens(c, np.arange(4))
    assert set(left(c)) == {1}


@pytest.mark.parametrize(
    ("tokens", "breakers", "window", "found"),
    [
        ([1, 2, 3, 1, 2], (), 99, {3: 2}),  # 1 2 again: 3 would prolong it
        ([1, 2, 3, 9, 2, 4, 1, 2], (), 99, {3: 2, 4: 1}),
        ([5, 1, 2, 3, 6, 1, 2, 4, 5, 1, 2], (), 99, {3: 3, 4: 2}),
        ([1, 2, 3, 1, 2], (2,), 99, {}),  # the last token breaks
        ([7, 1, 2, 3, 7, 1, 2], (7,), 99, {3: 2}),  # the match stops at 7
        ([1, 2, 3, 1, 2], (), 4, {3: 1}),  # the first 1 is out of the window
        ([4, 4, 4, 4], (), 99, {4: 3}),
        ([4] * 80, (), 99, {4: 50}),  # no longer than 50
        ([1], (), 99, {}),
        ([], (), 99, {}),
        ([1, 2, 3, 1, 2], (), 1, {}),
    ],
)
def test_dry_lengths(tokens: list[int], breakers: tuple[int, ...], window: int, found: dict[int, int]) -> None:
    def lengths(repeats: dry.RepeatIndex) -> dict[int, int]:
        ids, lengths = repeats.found()
        return dict(zip(ids.tolist(), lengths.tolist(), strict=True))

    for given in range(len(tokens) + 1):  # as a prompt, or said token by token
        run = SamplerState(n_vocab=10, prompt_ids=tokens[:given], window=window, breaker_ids=frozenset(breakers))
        repeats = dry.RepeatIndex(run)
        for token in tokens[given:]:
            run.accept(token)
        assert lengths(repeats) == found


def test_dry() -> None:
    # 3 would make 1 2 3 again, after a match of 2: 0.8 * 1.75^(2 - 2) = 0.8; with allowed length 1: 0.8 * 1.75 = 1.4
    for allowed, penalty in ((3, 0.0), (2, 0.8), (1, 1.4)):
        c = Candidates(np.zeros(4, np.float32))
        dry.apply_dry(
            c, dry.RepeatIndex(SamplerState(n_vocab=4, prompt_ids=[1, 2, 3, 1, 2], window=99)), 0.8, 1.75, allowed
        )
        assert c.logits == pytest.approx([0, 0, 0, -penalty])


def test_dry_breakers_are_tokens() -> None:
    pieces = [b"a", b"\n", b":\n", b"b", b'say "']
    encode = {"a\n": [0, 1], "a:": [0, 7], 'a"': [0, 8], "a*": [0, 9]}
    params = SamplingParams(dry_multiplier=1)
    assert dry.find_breaker_ids(params, encode.__getitem__) == {1, 7, 8, 9}
    assert dry.find_breaker_ids(params, encode.__getitem__, pieces.__getitem__, 5) == {1, 2, 4, 7, 8, 9}
    assert dry.find_breaker_ids(SamplingParams(), encode.__getitem__) == frozenset()


def test_mirostat_2() -> None:
    # tau 1: mu = 2 bits, so p >= 1/4 stays: 0.4 and 0.3
    m = mirostat.Mirostat(2, 1.0, 0.1, 4)
    c = candidates(*P)
    assert m.apply(c) == pytest.approx([4 / 7, 3 / 7])
    # the chosen one had 4/7, that is 0.8074 bits: mu = 2 - 0.1 * (0.8074 - 1)
    m.learn(4 / 7)
    assert m.mu == pytest.approx(2.01926, abs=1e-5)
    # a mu below the surprise of the best one leaves the best
    m.mu = -3
    c = candidates(*P)
    m.apply(c)
    assert set(left(c)) == {1}


def test_mirostat_1() -> None:
    # p = 8, 4, 2, 1 of 15: each step is ln 2. t = ln 2, ln 3/2, ln 4/3 = 0.6931, 0.4055, 0.2877.
    # exponent = ln 2 * sum t / sum t^2 = 0.6931 * 1.3863 / 0.7276 = 1.3206; epsilon 0.3206
    # mu = 2: base = 0.3206 * 4 / (1 - 4^-0.3206) = 1.2824 / 0.3588 = 3.574; k = 3.574^(1 / 1.3206) = 2.62, so 2
    c = candidates(2, 8, 1, 4)
    mirostat.cut_by_zipf(c, 2.0, 4)
    assert close(left(c), {1: 2 / 3, 3: 1 / 3})
    for flat in (candidates(1, 1, 1, 1), candidates(1, 0, 0, 0), candidates(1)):
        mirostat.cut_by_zipf(flat, 1.0, 4)
        assert len(flat) >= 1


def test_adaptive_p() -> None:
    # target 0.4, decay 0.5: weight 2, sum 0.8, so the first target is 0.8 - 0.4 = 0.4
    a = adaptive.AdaptiveP(0.4, 0.5)
    assert a.next_target == pytest.approx(0.4)
    c = candidates(*P)
    before = a.apply(c)
    assert before == pytest.approx(P)
    # x = |p - 0.4| / 0.3 = 2/3, 0, 1, 1/3: 5 - 10 x^2 / (1 + x) = 5 - 2.6667, 5, 5 - 5, 5 - 0.8333
    assert c.logits == pytest.approx([2.33333, 5, 0, 4.16667], abs=1e-4)
    # token 3 with p 0.3 was chosen: sum 0.3 + 0.4 = 0.7, weight 1 + 1 = 2: next target 0.8 - 0.35
    a.learn(0.3)
    assert a.next_target == pytest.approx(0.45)
    c = candidates(0.5, 0.0, 0.5, 0.0)
    with np.errstate(invalid="ignore"):
        a.apply(c)
    assert set(left(c)) == {0, 2}  # what was removed stays so
