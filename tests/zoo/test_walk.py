"""The walk itself: each step once, prompts that share what they should, and a limit on their length that holds."""

from __future__ import annotations

from tests.zoo.walk import NAMES, Step, most, walk


def steps(seed: int, length: int = 90) -> list[Step]:
    calls = iter(range(1000))
    return list(walk(lambda ids, n: [100 + next(calls) % 50] * n, vocab=range(10, 90), length=length, seed=seed))


def test_each_step_comes_once_and_fits() -> None:
    found = steps(1)
    assert tuple(step.name for step in found) == NAMES
    longest = max(len(step.prompt) + len(step.reply) for step in found)
    assert longest == most(length=90)


def test_the_same_seed_is_the_same_walk() -> None:
    assert steps(1) == steps(1)
    assert steps(1)[0].prompt != steps(2)[0].prompt


def test_prompts_share_what_a_user_leaves_alone() -> None:
    by_name = {step.name: step for step in steps(3)}

    def shared(one: str, two: str) -> int:
        pair = zip(by_name[one].prompt, by_name[two].prompt, strict=False)
        return next((at for at, (x, y) in enumerate(pair) if x != y), min(len(by_name[n].prompt) for n in (one, two)))

    assert by_name["regenerate"].prompt == by_name["cold"].prompt
    assert shared("cold", "next turn") == 90
    assert shared("cold", "edit the middle of the first message") == 45
    assert shared("next turn", "cut a thought out of a past reply") < 90 + 24
    assert shared("cold", "another chat") < 10
