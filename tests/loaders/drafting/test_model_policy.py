"""How far a draft model drafts: as far as pays, by its own price and by how often it is right; else not at all."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from loaders.drafting.model_policy import Chances, ModelPolicy, StepPlan
from loaders.drafting.policy import DraftPolicy


def step(rows: int) -> float:
    return 0.02 * (1 + 0.15 * (rows - 1))


def reply(
    price: float, right: Callable[[float], float], tokens: int = 2000, seed: int = 1, *, tries: float = 0.0
) -> tuple[float, ModelPolicy]:
    """The time of a reply compared with one without drafts. A guess costs `price` steps and is right with a chance that
    depends on the draft model's confidence. `tries`: how often other programs make a step five times as long.
    """
    dice = random.Random(seed)
    steps = DraftPolicy([2.0])
    policy = ModelPolicy(steps)
    seconds, plain, written = 0.0, 0.0, 0
    while written < tokens:
        slow = 5.0 if dice.random() < tries else dice.uniform(0.95, 1.1)
        plan, degrees, good, chance = StepPlan(1, 1, 1.0), list[int](), list[bool](), 1.0
        while len(degrees) < 16 and policy.pays(plan, 1, chance):
            policy.price.note(1, price * step(1) * dice.uniform(0.95, 1.1))
            plan.seconds += policy.price.seconds(1)
            confidence = dice.betavariate(1.5, 0.6)
            degrees.append(policy.chances.degree(confidence))
            good.append(dice.random() < right(confidence))
            chance *= policy.chances.of(degrees[-1])
            plan.add(1, chance)
        accepted = [*good, False].index(False)
        policy.judge(tuple(degrees), accepted)
        spent = step(plan.rows) * slow
        steps.note(plan.rows, 1, spent, accepted, plan.seconds)
        if plan.seconds:
            policy.note_gain(plan, accepted)
        else:
            policy.forget()
        seconds, written = seconds + spent + plan.seconds, written + 1 + accepted
        plain += step(1) * slow * (1 + accepted)
    return seconds / plain, policy


@pytest.mark.parametrize("price", [0.1, 0.4, 1.0])
@pytest.mark.parametrize("chance", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_it_never_loses_much(price: float, chance: float) -> None:
    for seed in range(3):
        assert reply(price, lambda _: chance, seed=seed)[0] < 1.04


@pytest.mark.parametrize(("price", "chance", "most"), [(0.1, 0.8, 0.7), (0.3, 0.95, 0.75), (0.4, 1.0, 0.7)])
def test_it_gains_where_there_is_something_to_gain(price: float, chance: float, most: float) -> None:
    assert reply(price, lambda _: chance)[0] < most


def test_confidence_is_worth_something() -> None:
    """Of two draft models that are right as often, the one that knows when is worth more."""
    knows = reply(0.3, lambda confidence: float(confidence > 0.5))[0]
    guesses = reply(0.3, lambda _: 0.78)[0]
    assert knows < guesses - 0.05


def test_what_other_programs_do_does_not_switch_it_off() -> None:
    assert reply(0.3, lambda _: 0.97, tries=0.1)[0] < 0.85


def test_a_prompt_is_only_read_for_a_reply_that_gains_the_time_again() -> None:
    _, policy = reply(0.2, lambda _: 0.95)
    policy.note_reading(1000, 2.0)
    assert policy.worth_reading(100, 1, 0, 500)
    assert not policy.worth_reading(8000, 1, 0, 5000)
    assert policy.worth_reading(8000, 1, 4000, 5000)
    assert not policy.worth_reading(8000, 1, 4000, 50)
    _, useless = reply(0.5, lambda _: 0.0)
    assert not useless.worth_reading(100, 1, 0, 500)


def test_degrees_of_confidence_are_learned() -> None:
    chances = Chances()
    for _ in range(200):
        chances.note(chances.degree(0.99), right=False)
        chances.note(chances.degree(0.1), right=True)
    assert chances.of(chances.degree(0.99)) < 0.1
    assert chances.of(chances.degree(0.1)) > 0.9
    assert 0.3 < chances.of(-1) < 0.7
    for _ in range(3000):
        chances.forget()
    assert chances.of(chances.degree(0.99)) > 0.9
