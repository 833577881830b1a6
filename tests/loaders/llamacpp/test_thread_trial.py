"""Beside other programs, the number of threads is the one whose steps are shorter, and trying costs little."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from loaders.llamacpp.thread_trial import LATEST, ThreadTrial

FEW, MANY = 1, 2


def run(
    cost: Callable[[int], float],
    seconds: float = 60.0,
    rows: int = 4,
    trial: ThreadTrial | None = None,
    at: float = 0.0,
) -> tuple[float, float]:
    """Steps of a machine where each takes so long with this many threads: the seconds per step from the middle on, and
    the share of them with many threads.
    """
    trial, dice, now, begun = trial or ThreadTrial(), random.Random(1), at, at
    took: list[float] = []
    many = 0
    while now < begun + seconds:
        threads = trial.choose(rows, FEW, MANY, now)
        spent = cost(threads) * dice.uniform(0.8, 1.3)
        trial.note(rows, threads, spent)
        now += spent
        if now > begun + seconds / 2:
            took.append(spent)
            many += threads == MANY
    return sum(took) / len(took), many / len(took)


@pytest.mark.parametrize("slower", [1.3, 2.0, 4.0, 10.0])
@pytest.mark.parametrize("better", [FEW, MANY])
def test_the_shorter_steps_win(slower: float, better: int) -> None:
    mean, many = run(lambda threads: 0.02 if threads == better else 0.02 * slower)
    assert mean < 0.02 * 1.05 * 1.05
    assert many > 0.9 if better == MANY else many < 0.1


def test_it_begins_with_few() -> None:
    trial = ThreadTrial()
    assert [trial.choose(1, FEW, MANY, 0.0) for _ in range(3)] == [FEW] * 3


def test_it_notices_a_change() -> None:
    trial = ThreadTrial()
    run(lambda threads: 0.02 * threads, trial=trial)
    _, many = run(lambda threads: 0.04 / threads, 3 * LATEST, trial=trial, at=60.0)
    assert many > 0.8


def test_one_endless_step_does_not_decide() -> None:
    trial = ThreadTrial()
    run(lambda threads: 0.04 / threads, trial=trial)
    trial.note(4, MANY, 3600.0)
    assert run(lambda threads: 0.04 / threads, 10, trial=trial, at=4000.0)[1] > 0.8


def test_steps_of_other_sizes_are_tried_by_themselves() -> None:
    trial = ThreadTrial()
    assert run(lambda threads: 0.02 * threads, rows=1, trial=trial)[1] < 0.1
    assert run(lambda threads: 0.04 / threads, rows=4, trial=trial, at=60.0)[1] > 0.9


def test_the_smaller_number_may_change() -> None:
    trial = ThreadTrial()
    for few in (3, 1, 2, 3):
        for _ in range(40):
            threads = trial.choose(1, few, 4, 0.0)
            assert threads in (few, 4)
            trial.note(1, threads, 0.01 * threads)
