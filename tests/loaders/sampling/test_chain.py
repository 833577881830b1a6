"""The chain: order, seeds, bans, greedy decoding, choosing again, errors, and correct probabilities."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import EngineFailed, InvalidInput
from loaders.params import SAMPLERS, SamplingParams
from loaders.sampling import NON_SAMPLER_PARAMS, SamplerChain, chain, sampler_order
from loaders.sampling.state import SamplerState, TokenWindow

N = 1000
RNG = np.random.default_rng(7)
Z = (RNG.standard_normal(N) * 3).astype(np.float32)
Z.flags.writeable = False


def make(n_vocab: int = N, seed: int = 1, prompt_ids: Any = (), **knobs: Any) -> SamplerChain:
    own = {name: knobs.pop(name) for name in ("end_ids", "newline_ids", "logit_bias", "warnings") if name in knobs}
    return SamplerChain(SamplingParams(**knobs), n_vocab=n_vocab, seed=seed, prompt_ids=prompt_ids, **own)


def text(chain: SamplerChain, count: int = 40, seed: int = 3) -> list[int]:
    """Tokens of a model whose logits depend only on the position."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        found.append(chain.choose((rng.standard_normal(N) * 3).astype(np.float32)))
        chain.accept(found[-1])
    return found


# --- order ---------------------------------------------------------------------------------------------------------


def test_every_sampler_of_the_priority_list_has_a_builder() -> None:
    assert {*chain._BUILDERS, *chain._DRAWING} == set(SAMPLERS)


def test_an_incomplete_order_switches_nothing_off() -> None:
    assert sampler_order(SamplingParams()) == list(SAMPLERS)
    assert sampler_order(SamplingParams(sampler_priority=())) == list(SAMPLERS)
    assert sampler_order(SamplingParams(sampler_priority=("top_k",))) == list(SAMPLERS)
    steps = sampler_order(SamplingParams(sampler_priority=("min_p", "temperature")))
    assert sorted(steps) == sorted(SAMPLERS)
    assert steps.index("min_p") < steps.index("temperature") < steps.index("top_k")


def test_a_strange_name_in_the_order_is_told() -> None:
    warnings: list[str] = []
    make(sampler_priority=("top_k", "magic"), warnings=warnings)
    assert warnings == ["sampler_priority: unknown samplers were ignored: magic."]


def test_temperature_last_moves_the_three() -> None:
    assert sampler_order(SamplingParams(temperature_last=True))[-3:] == [
        "temperature",
        "dynamic_temperature",
        "quadratic_sampling",
    ]


def test_the_order_matters() -> None:
    z = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    # at T = 0.5 the best has 0.25 / 0.38 = 0.66, which is enough for 0.6 alone; before it 0.5 is not
    first = make(3, temperature=0.5, top_p=0.6)
    last = make(3, temperature=0.5, top_p=0.6, temperature_last=True)
    also_last = make(3, temperature=0.5, top_p=0.6, sampler_priority=("top_p", "temperature"))
    assert first.distribution(z)[0].tolist() == [0]
    assert last.distribution(z)[0].tolist() == also_last.distribution(z)[0].tolist() == [0, 1]


def test_neutral_knobs_have_no_step() -> None:
    assert make().steps == ()
    assert make(seed=5, xtc_threshold=0.3, mirostat_tau=2, dynatemp_low=0.1, smoothing_curve=3, dry_base=3).steps == ()
    assert make(temperature=0.7, top_p=0.9, top_k=20, repetition_penalty=1.15).steps == (
        "repetition_penalty",
        "temperature",
        "top_k",
        "top_p",
    )
    assert make(temperature=0.7, dynamic_temperature=True).steps == ("dynamic_temperature",)
    assert make(mirostat_mode=2, min_p=0.1, sampler_priority=("mirostat", "min_p")).steps == ("min_p", "mirostat")


ON: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 0.5},
    "dynamic_temperature": {"dynamic_temperature": True, "dynatemp_low": 0.3, "dynatemp_high": 0.5},
    "quadratic_sampling": {"smoothing_factor": 0.5},
    "top_n_sigma": {"top_n_sigma": 2},
    "top_k": {"top_k": 5},
    "top_p": {"top_p": 0.5},
    "typical_p": {"typical_p": 0.5},
    "epsilon_cutoff": {"epsilon_cutoff": 9},
    "eta_cutoff": {"eta_cutoff": 20},
    "tfs": {"tfs": 0.5},
    "top_a": {"top_a": 0.5},
    "min_p": {"min_p": 0.1},
    "xtc": {"xtc_probability": 1, "xtc_threshold": 0.01},
    "adaptive_p": {"adaptive_target": 0.05},
    "mirostat": {"mirostat_mode": 2, "mirostat_tau": 2},
    "repetition_penalty": {"repetition_penalty": 1.5},
    "presence_penalty": {"presence_penalty": 1},
    "frequency_penalty": {"frequency_penalty": 1},
    "encoder_repetition_penalty": {"encoder_repetition_penalty": 1.5},
    "dry": {"dry_multiplier": 1},
    "no_repeat_ngram": {"no_repeat_ngram_size": 2},
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_acts(name: str) -> None:
    prompt = [*np.argsort(-Z)[:20].tolist(), *np.argsort(-Z)[:3].tolist()]
    plain, acting = make(prompt_ids=prompt), make(prompt_ids=prompt, **ON[name])
    assert acting.steps == (name,)
    before, after = np.zeros(N), np.zeros(N)
    for target, c in ((before, plain), (after, acting)):
        ids, p = c.distribution(Z)
        target[ids] = p
    assert np.abs(before - after).max() > 1e-3
    stage = acting.stages(Z)[-1]
    assert stage.name == name
    assert stage.value


def test_the_steps_tell_what_they_took_and_what_they_moved() -> None:
    allowed = np.arange(N) % 2 == 0
    stages = make(temperature=0.5, top_k=9, min_p=0.3).stages(Z, allowed)
    assert [stage.name for stage in stages] == ["model", "grammar", "temperature", "top_k", "min_p"]
    for before, after in itertools.pairwise(stages):
        assert after.probabilities.sum() == pytest.approx(1, abs=1e-5)
        assert np.count_nonzero(after.probabilities) == after.kept == before.kept - after.removed
        lost = (before.probabilities > 0) & (after.probabilities == 0)
        assert after.dropped_mass == pytest.approx(before.probabilities[lost].sum(), abs=1e-6)
        assert after.tv_distance == pytest.approx(
            np.abs(after.probabilities - before.probabilities).sum() / 2, abs=1e-6
        )
        assert all(not allowed[token] or lost[token] for token, _ in after.dropped)
    assert stages[2].dropped_mass == 0 < stages[2].tv_distance  # temperature only transforms
    assert stages[3].tv_distance == pytest.approx(
        stages[3].dropped_mass, abs=1e-6
    )  # a truncation gives its share to all that stay
    assert make(min_p=0.3).stages(Z)[-1].top[0][1] == pytest.approx(stages[0].top[0][1] / (1 - make(
        min_p=0.3).stages(Z)[-1].dropped_mass), rel=1e-4)  # fmt: skip


def test_knobs_that_are_not_the_stacks_business_exist() -> None:
    assert set(SamplingParams.model_fields) >= NON_SAMPLER_PARAMS


# --- chance --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [50, 9000])  # the draw from a long list goes by blocks
def test_what_is_drawn_follows_the_probabilities(n: int) -> None:
    """Pearson's chi-square over 20 groups of tokens: below 43.8 in 999 of 1,000 such tests, here with a fixed seed."""
    z = (np.random.default_rng(1).standard_normal(n) * 2).astype(np.float32)
    c = make(n, seed=12)
    p = np.exp(z.astype(np.float64))
    p /= p.sum()
    groups = np.empty(n, int)
    groups[np.argsort(-p)] = np.minimum(np.cumsum(np.sort(p)[::-1]) * 20, 19).astype(int)
    draws = 4000
    found = np.zeros(20)
    for _ in range(draws):
        token = c.choose(z)
        c.accept(token)
        found[groups[token]] += 1
    wanted = np.bincount(groups, weights=p, minlength=20) * draws
    some = wanted > 0
    assert (((found - wanted) ** 2)[some] / wanted[some]).sum() < 43.8


def test_default_settings_change_nothing() -> None:
    ids, p = make().distribution(Z)
    assert ids.tolist() == list(range(N))
    assert p == pytest.approx(np.exp(Z.astype(float)) / np.exp(Z.astype(float)).sum(), abs=1e-6)


def test_the_tail_of_a_long_list_is_drawn_too() -> None:
    # each of 100,000 has 2e-9, which a cumulative float32 sum next to 1 would lose
    z = np.full(100_001, 0, np.float32)
    z[0] = 20
    ids = {0}
    c = make(len(z))
    for chance in (0.0, 0.5, 0.9998, 1 - 2**-53):
        c._draw_chance = chance
        ids.add(c.choose(z))
    assert max(ids) == 100_000
    assert len(ids) > 2


def test_the_same_seed_gives_the_same_text() -> None:
    knobs = {"temperature": 1.3, "xtc_probability": 0.5, "min_p": 0.01, "mirostat_mode": 2}
    first = text(make(**knobs))
    assert text(make(**knobs)) == first
    assert text(make(**knobs, seed=2)) != first
    # two that run in turn do not mix
    a, b = make(**knobs), make(**knobs, seed=2)
    rng = np.random.default_rng(3)
    together = []
    for _ in range(40):
        z = (rng.standard_normal(N) * 3).astype(np.float32)
        together.append(a.choose(z))
        a.accept(together[-1])
        b.accept(b.choose(z))
    assert together == first


def test_a_seed_of_minus_one_is_drawn_and_told() -> None:
    a, b = make(seed=-1), make(seed=-1)
    assert a.seed >= 0
    assert a.seed != b.seed
    assert text(make(seed=a.seed)) == text(a)


def test_looking_changes_nothing() -> None:
    knobs = {"temperature": 1.3, "xtc_probability": 0.5, "mirostat_mode": 2, "repetition_penalty": 1.2}
    a, b = make(**knobs), make(**knobs)
    rng = np.random.default_rng(3)
    for _ in range(20):
        z = (rng.standard_normal(N) * 3).astype(np.float32)
        b.stages(z)
        b.distribution(z)
        token = b.choose(z)
        b.stages(Z)
        b.choose(Z)
        assert a.choose(z) == token == b.choose(z)
        a.accept(token)
        b.accept(token)


def test_choosing_again_among_what_is_allowed() -> None:
    knobs: dict[str, Any] = {"repetition_penalty": 1.3, "mirostat_mode": 2, "temperature": 1.5}
    a, b = make(**knobs), make(**knobs)
    rng = np.random.default_rng(3)
    for _ in range(20):
        z = (rng.standard_normal(N) * 3).astype(np.float32)
        allowed = rng.random(N) < 0.1
        b.choose(z)  # the free choice, which the grammar refuses
        token = b.choose(z, allowed)
        assert allowed[token]
        assert a.choose(z, allowed) == token
        a.accept(token)
        b.accept(token)
    assert make(do_sample=False).choose(Z, np.arange(N) == 5) == 5


def test_xtc_acts_as_often_as_asked() -> None:
    z = np.log(np.array([0.6, 0.4], np.float32))
    c = make(2, xtc_probability=0.25, xtc_threshold=0.3, temperature_last=True)
    acted = 0
    for _ in range(2000):
        acted += len(c.distribution(z)[0]) == 1
        c.accept(0)
    assert acted == pytest.approx(500, abs=60)  # three standard deviations are 58


# --- state ---------------------------------------------------------------------------------------------------------


def test_penalties_look_at_prompt_and_reply_within_the_range() -> None:
    z = np.zeros(6, np.float32)
    c = make(6, prompt_ids=[0, 1, 2], frequency_penalty=1.0, repetition_penalty_range=4)

    def counts() -> list[float]:
        ids, p = c.distribution(z)
        return [round(-math.log(p[ids == i][0]) + math.log(p.max()), 3) for i in range(6)]

    assert counts() == [1, 1, 1, 0, 0, 0]
    c.accept(2)
    assert counts() == [1, 1, 2, 0, 0, 0]
    c.accept(5)
    assert counts() == [0, 1, 2, 0, 0, 1]  # 1 2 2 5


def test_the_window_counts_as_a_plain_count_does() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(-1, 12, 400).tolist()
    window = TokenWindow(np.array(tokens[:50]), 30)
    for i, token in enumerate(tokens[50:], 51):
        window.append(token)
        last = [token for token in tokens[:i][-30:] if token >= 0]
        assert dict(zip(window.tokens.tolist(), window.counts.tolist(), strict=True)) == {
            token: last.count(token) for token in last
        }
    many = TokenWindow(np.arange(0), 5000)
    for token in range(5000):
        many.append(token)
    assert many.tokens.tolist() == list(range(5000))


def test_a_range_of_zero_is_the_whole_context() -> None:
    c = SamplerChain(
        SamplingParams(presence_penalty=1, repetition_penalty_range=0),
        n_vocab=3, seed=1, prompt_ids=[0, 1, 1, 1], context_length=4,
    )  # fmt: skip
    assert c.distribution(np.zeros(3, np.float32))[1].argmax() == 2
    c.accept(2)  # now token 0 is beyond the context
    assert c.distribution(np.zeros(3, np.float32))[1].argmax() == 0


def test_the_history_grows() -> None:
    run = SamplerState(n_vocab=5, prompt_ids=[1, 9, -3], window=10)
    for token in range(3000):
        run.accept(token % 5)
    assert run.history.tokens.tolist() == [1, -1, -1, *(token % 5 for token in range(3000))]


def test_mirostat_learns_and_holds_its_target() -> None:
    for mode in (1, 2):
        c = make(mirostat_mode=mode, mirostat_tau=2.0)
        rng = np.random.default_rng(3)
        surprises = []
        for _ in range(300):
            z = (rng.standard_normal(N) * 3).astype(np.float32)
            ids, p = c.distribution(z)
            token = c.choose(z)
            surprises.append(-math.log2(p[ids == token][0]))
            c.accept(token)
        assert np.mean(surprises[50:]) == pytest.approx(2, abs=0.2)


def test_adaptive_p_pulls_towards_its_target() -> None:
    def mean(target: float) -> float:
        c = make(adaptive_target=target, min_p=0.02)
        rng = np.random.default_rng(3)
        plain = make(min_p=0.02)
        found = []
        for _ in range(300):
            z = (rng.standard_normal(N) * 3).astype(np.float32)
            ids, p = plain.distribution(z)
            token = c.choose(z)
            found.append(p[ids == token][0])
            c.accept(token)
        return float(np.mean(found))

    assert mean(0.05) < mean(0.2) < mean(0.6)


def test_mirostat_and_adaptive_p_together_are_told() -> None:
    warnings: list[str] = []
    assert make(mirostat_mode=1, adaptive_target=0.5, warnings=warnings).steps == ("mirostat",)
    assert "adaptive-p has no effect" in warnings[0]


# --- what comes before the samplers --------------------------------------------------------------------------------


def test_biases_and_bans() -> None:
    warnings: list[str] = []
    z = np.zeros(4, np.float32)
    c = make(4, logit_bias={1: 1.0, 7: 3}, custom_token_bans="2", ban_eos_token=True, end_ids=[3], warnings=warnings)
    ids, p = c.distribution(z)
    assert ids.tolist() == [0, 1]
    assert p[1] / p[0] == pytest.approx(math.e, rel=1e-4)
    assert warnings == ["Token id 7 does not exist in this model, so its ban or bias was ignored."]
    bans = c.stages(z)[1]
    assert (bans.name, bans.kept, bans.removed) == ("bans", 2, 2)
    assert {token for token, _ in bans.dropped} == {2, 3}


def test_a_bias_that_is_not_finite() -> None:
    z = np.zeros(4, np.float32)
    assert make(4, logit_bias={1: math.inf}).choose(z) == 1
    with pytest.raises(InvalidInput, match="NaN"):
        make(4, logit_bias={1: math.nan})
    with pytest.raises(InvalidInput, match="5 tokens, but this model has only 4"):
        make(4, logit_bias=dict.fromkeys(range(5), 1.0))


def test_the_reply_does_not_end_before_its_least_length() -> None:
    z = np.array([0, 5, 0], np.float32)
    c = make(3, do_sample=False, min_length=2, end_ids=[1])
    assert c.choose(z) == 0
    c.accept(0)
    assert c.choose(z) == 0
    c.accept(0)
    assert c.choose(z) == 1


def test_greedy() -> None:
    best = int(Z.argmax())
    assert make(do_sample=False).choose(Z) == best
    assert make(temperature=0).choose(Z) == best
    # warpers do not act, penalties do
    c = make(do_sample=False, prompt_ids=[best], repetition_penalty=1e6, mirostat_mode=2, typical_p=0.1, top_k=5)
    assert c.steps == ("repetition_penalty",)
    assert c.choose(Z) == int(np.argsort(-Z)[1])
    assert [stage.name for stage in c.stages(Z)] == ["model", "repetition_penalty", "greedy"]
    assert c.distribution(Z)[0].tolist() == [int(np.argsort(-Z)[1])]


def test_greedy_and_no_repeated_pairs() -> None:
    z = np.array([3, 2, 1], np.float32)
    c = make(3, do_sample=False, no_repeat_ngram_size=2)
    found = []
    for _ in range(12):
        found.append(c.choose(z))
        c.accept(found[-1])
    # 0 0, then 0 1, 1 0, 0 2, 2 0; after 0 everything has been, so the best is taken
    assert found[:7] == [0, 0, 1, 0, 2, 0, 0]


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("knobs", [{}, {"do_sample": False}, {"top_k": 3, "repetition_penalty": 1.1}])
def test_logits_that_are_not_numbers_are_an_error(knobs: dict[str, Any]) -> None:
    c = make(4, prompt_ids=[0], **knobs)
    for bad in ([0, math.nan, 0, 0], [math.inf, 0, 0, 0], [math.nan] * 4):
        z = np.array(bad, np.float32)
        for look in (c.choose, c.stages, c.distribution):
            with pytest.raises(EngineFailed, match="NaN logits"):
                look(z)
    with pytest.raises(EngineFailed, match="all tokens are banned"):
        c.choose(np.zeros(4, np.float32), np.zeros(4, bool))
    with pytest.raises(EngineFailed, match="all tokens are banned"):
        c.stages(np.zeros(4, np.float32), np.zeros(4, bool))
    with pytest.raises(ValueError, match="shape"):
        c.choose(np.zeros(5, np.float32))


def test_extreme_penalties_leave_numbers() -> None:
    z = np.array([3e38, -3e38, 0, 1], np.float32)
    c = make(
        4, prompt_ids=[0, 1, 2, 3, 0, 1, 2], repetition_penalty=0.01, presence_penalty=-1e38, frequency_penalty=1e38,
        dry_multiplier=1e30, dry_base=1e30, temperature=0.01, dry_allowed_length=0,
    )  # fmt: skip
    _, p = c.distribution(z)
    assert p.sum() == pytest.approx(1)
    assert 0 <= c.choose(z) < 4


_NUMBERS = [name for name, knob in SamplingParams.knobs().items() if knob.kind == "float"]
_ANY = st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(st.sampled_from(_NUMBERS), _ANY, max_size=6), st.booleans(), st.integers(0, 2))
@settings(max_examples=400)
def test_whatever_the_knobs_say_a_token_is_chosen(values: dict[str, float], dynamic: bool, mirostat: int) -> None:
    knobs: dict[str, Any] = {"dynamic_temperature": dynamic, "mirostat_mode": mirostat}
    for name, value in values.items():
        try:
            knobs = SamplingParams.parse({**knobs, name: value}).differing()
        except InvalidInput:  # out of bounds
            continue
    z = np.array([9.5, -40, 0, 1, 1, 9.25, -3e38, 3], np.float32)
    c = make(8, prompt_ids=[0, 1, 2, 3, 0, 1, 2], **knobs)
    ids, p = c.distribution(z)
    assert len(ids)
    assert np.isfinite(p).all()
    assert p.sum() == pytest.approx(1, rel=1e-3)
    for _ in range(3):
        token = c.choose(z)
        assert 0 <= token < 8
        c.accept(token)


def test_a_vocabulary_of_one() -> None:
    for name in SAMPLERS:
        assert make(1, prompt_ids=[0, 0, 0], **ON[name]).choose(np.zeros(1, np.float32)) == 0


def test_stages_say_what_went() -> None:
    z = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    stages = make(4, min_p=0.2, temperature=0.5, temperature_last=True).stages(z, top=2)
    assert [(s.name, s.value, s.kept, s.removed) for s in stages] == [
        ("model", "", 4, 0),
        ("min_p", "0.2", 3, 1),
        ("temperature", "0.5", 3, 0),
    ]
    assert stages[1].dropped == ((3, pytest.approx(0.05)),)
    assert stages[1].top == ((0, pytest.approx(0.5 / 0.95)), (1, pytest.approx(0.3 / 0.95)))


def test_other_kinds_of_arrays_are_taken() -> None:
    half = Z.astype(np.float16)
    assert make(do_sample=False).choose(half) == int(half.argmax())
    assert make(do_sample=False).choose(np.repeat(Z, 2)[::2]) == int(Z.argmax())


@pytest.mark.parametrize("restricted", ["by nothing else", "by a bias", "by a grammar", "by both"])
@pytest.mark.parametrize("do_sample", [False, True])
@pytest.mark.parametrize("least", [0, 1, 3])
def test_the_end_may_come_right_after_the_least_length(restricted: str, do_sample: bool, least: int) -> None:
    """Whatever else excludes tokens: the minimum length prevents the end for exactly that many tokens."""
    end = 7
    bias = {3: -1.0} if restricted in ("by a bias", "by both") else {}
    allowed = np.isin(np.arange(N), (end, 8, 9)) if restricted in ("by a grammar", "by both") else None
    logits = np.zeros(N, np.float32)
    logits[end] = 50  # nothing but the end would be chosen
    made = make(min_length=least, do_sample=do_sample, end_ids=(end,), logit_bias=bias)
    chosen = []
    for _ in range(least + 1):
        chosen.append(made.choose(logits, allowed))
        made.accept(chosen[-1])
    assert end not in chosen[:-1]
    assert chosen[-1] == end


def test_a_second_draw_favours_nobody() -> None:
    """After a choice that a grammar refuses, the others keep their probabilities: the same random number again would
    give all of it to the neighbours of the first choice.
    """
    logits = np.log(np.array([0.5, 0.25, 0.25], np.float32))
    allowed = np.array([False, True, True])
    again = []
    for seed in range(600):
        made = make(3, seed=seed)
        if made.choose(logits) == 0:
            again.append(made.choose(logits, allowed))
    assert len(again) > 200
    assert set(again) <= {1, 2}
    share = again.count(1) / len(again)
    assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(len(again))


# --- going back ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reply", "back"), [(7, 3), (7, 7), (1, 1), (60, 1)])
@pytest.mark.parametrize("name", [*SAMPLERS, "all"])
def test_after_going_back_everything_is_as_it_was(name: str, reply: int, back: int) -> None:
    knobs = {key: value for each in SAMPLERS for key, value in ON[each].items()} if name == "all" else ON[name]
    prompt = [*range(30), *range(20)]
    straight, going_back = make(prompt_ids=prompt, **knobs), make(prompt_ids=prompt, **knobs)
    logits = (np.random.default_rng(5).standard_normal((reply + 10, N)) * 3).astype(np.float32)
    for row in logits[: reply - back]:
        straight.accept(straight.choose(row))
    for place, row in enumerate(logits[:reply]):
        token = going_back.choose(row)
        going_back.accept(token if place < reply - back else (token + 1) % N)
    going_back.rewind(back)
    for row in logits[reply:]:
        token = straight.choose(row)
        assert going_back.choose(row) == token
        straight.accept(token)
        going_back.accept(token)


def test_each_attempt_at_a_place_has_its_own_number() -> None:
    flat, allowed = np.zeros(N, np.float32), np.ones(N, bool)
    chain = make()
    found = [chain.choose(flat, allowed, attempt) for attempt in range(8)]
    assert len(set(found)) > 5
    assert found == [make().choose(flat, allowed, attempt) for attempt in range(8)]
    chain.accept(3)
    assert [chain.choose(flat, allowed, attempt) for attempt in range(1, 8)] != found[1:]
