"""How much is drafted: as much as pays on this machine, nothing where nothing does, and little is lost in trying."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from loaders.drafting.ngram import SIZES, TRUST
from loaders.drafting.policy import LENGTHS, DraftPolicy, StepTimes


def reply(
    cost: Callable[[int], float], chance: float, tokens: int = 3000, seed: int = 1, trust: float = 2.0
) -> tuple[float, DraftPolicy]:
    """The time of a reply compared with one without drafts, where each guess is right with this chance."""
    policy, dice = DraftPolicy([trust]), random.Random(seed)
    seconds, written = 0.0, 0
    while written < tokens:
        length = policy.length(0, LENGTHS, 1)
        right = 0
        while right < length and dice.random() < chance:
            right += 1
        if length:
            policy.judge(0, length, right)
        spent = cost(1 + length) * dice.uniform(0.95, 1.1)
        policy.note(1 + length, 1, spent, right)
        seconds, written = seconds + spent, written + 1 + right
    return seconds / (written * cost(1)), policy


def memory_bound(rows: int) -> float:
    return 0.02 * (1 + 0.15 * (rows - 1))


def compute_bound(rows: int) -> float:
    return 0.02 * (1 + 0.95 * (rows - 1))


@pytest.mark.parametrize("chance", [0.0, 0.2, 0.5, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("cost", [memory_bound, compute_bound])
@pytest.mark.parametrize("trust", [min(TRUST), max(TRUST)])
def test_it_never_loses_much(cost: Callable[[int], float], chance: float, trust: float) -> None:
    for seed in range(5):
        assert reply(cost, chance, seed=seed, trust=trust)[0] < 1.1 * 1.03


def test_every_kind_of_repetition_has_its_trust() -> None:
    assert len(TRUST) == len(SIZES) + 1
    assert list(TRUST) == sorted(TRUST, reverse=True)


@pytest.mark.parametrize(("chance", "most"), [(0.6, 0.85), (0.8, 0.65), (0.95, 0.4)])
def test_it_gains_where_there_is_something_to_gain(chance: float, most: float) -> None:
    assert reply(memory_bound, chance)[0] < most


def test_it_notices_that_a_text_has_changed() -> None:
    _, policy = reply(memory_bound, 1.0, 500)
    assert policy.length(0, LENGTHS, 1) > 8
    for _ in range(12):
        policy.judge(0, 8, 0)
    assert policy.length(0, LENGTHS, 1) <= 2


@pytest.mark.parametrize("cost", [memory_bound, compute_bound])
@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_a_computer_that_sleeps_within_a_step_changes_nothing(cost: Callable[[int], float], rows: int) -> None:
    _, policy = reply(cost, 0.8, 500)
    before = {each: policy.times.seconds(each) for each in range(1, 49)}
    drafts = policy.length(0, LENGTHS, 1)
    policy.note(rows, 1, 3600.0, 0)
    assert all(policy.times.seconds(each) <= max(before[each] * 1.15, 1.1 * each * cost(1)) for each in before)
    for _ in range(30):
        policy.note(1, 1, cost(1), 0)
    assert abs(policy.length(0, LENGTHS, 1) - drafts) <= 2


def test_it_gives_way_to_what_gains_more() -> None:
    """A draft model, say, that makes steps three times as fast."""
    _, policy = reply(memory_bound, 0.6, 500)
    assert policy.length(0, LENGTHS, 1) > 0
    assert policy.length(0, LENGTHS, 1, worth=3.0) == 0
    _, policy = reply(memory_bound, 1.0, 500)
    assert policy.length(0, LENGTHS, 1, worth=3.0) > 8


def test_without_any_time_nothing_is_drafted() -> None:
    assert DraftPolicy([2.0]).length(0, LENGTHS, 1) == 0


def test_times_between_measured_ones_are_interpolated() -> None:
    times = StepTimes()
    assert times.seconds(3) == 0
    times.note(1, 1.0)
    times.note(5, 3.0)
    assert times.seconds(3) == pytest.approx(2.0)
    assert times.seconds(9) > times.seconds(5)
    times.note(1, 50.0)  # something else took the machine
    assert times.seconds(1) < 5
