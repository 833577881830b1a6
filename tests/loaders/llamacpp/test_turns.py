"""Places are shared out among requests: one that asks for many replies takes turns with itself."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from loaders.base import Request
from loaders.job import Errand, Job
from loaders.line import Line
from loaders.llamacpp import turns
from loaders.params import SamplingParams
from tests.loaders.llamacpp.test_sharing import Load, load, request  # noqa: F401 - a fixture

PARAMS = SamplingParams()


def job(label: str) -> Job:
    return Job(Request((1,), PARAMS, label=label))


def run(label: str, turn: int = turns.TURN) -> Any:
    return SimpleNamespace(job=job(label), turn=turn, replying=True)


@pytest.mark.parametrize(
    ("running", "waiting", "places", "tired"),
    [
        ("aaab", "aaaa", 4, "aaa"),  # b is alone in its half
        ("aabb", "aacc", 4, "aabb"),  # three in four places: one each, and each has two
        ("aabb", "aa", 4, ""),  # half of the places each
        ("abcd", "e", 4, "abcd"),  # more requests than places: all take turns
        ("aaaa", "aaaa", 4, ""),  # nobody else is there: in the order in which they came
        ("a", "b", 1, "a"),
    ],
)
def test_who_has_had_a_turn(running: str, waiting: str, places: int, tired: str) -> None:
    line: Line[Any] = Line()
    for label in waiting:
        line.join(job(label))
    found = turns.tired([run(label) for label in running], line, places)
    assert "".join(each.job.request.label for each in found) == tired


def test_requests_without_a_label_are_each_somebody() -> None:
    line: Line[Any] = Line()
    line.join(job(""))
    assert len(turns.tired([run(""), run("")], line, 2)) == 2


@pytest.mark.parametrize(
    ("running", "waiting", "order"),
    [
        ("aa", "aabc", "bcaa"),  # those who have nothing yet
        ("", "abab", "abab"),
        ("a", "a!b", "a!b"),  # nobody passes an errand: behind it another adapter acts
    ],
)
def test_who_is_next(running: str, waiting: str, order: str) -> None:
    line: Line[Any] = Line()
    for label in waiting:
        line.join(Errand(lambda: None, "!") if label == "!" else job(label))
    runs = [run(label) for label in running]
    came = ""
    while item := turns.call_next(runs, line):
        came += item.job.request.label
        line.take()
        if item.job.request.label != "!" and running:
            runs.append(item)
    assert came == order


def test_one_reply_goes_on_beside_a_request_for_many(load: Load) -> None:  # noqa: F811
    model = load(parallel=2)
    done: list[int] = []

    def read(number: int) -> None:
        for _ in model.generate(replace(request(model, number, 150), label="many")):
            pass
        done.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(7)]
    for thread in threads:
        thread.start()
    assert len(list(model.generate(replace(request(model, 9, 150), label="one")))) == 150
    assert len(done) <= 4, "it had a place of two for itself: meanwhile the other one gave at most two or three replies"
    for thread in threads:
        thread.join()
