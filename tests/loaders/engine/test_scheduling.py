"""Slots are shared among requests: one that asks for many replies takes turns with itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from loaders.base import Request
from loaders.engine import scheduling
from loaders.engine.request_queue import RequestQueue
from loaders.job import EngineTask, Job
from loaders.params import SamplingParams
from tests.loaders.engine.engines import CountingEngine, EngineModel, EngineUnderTest, small_tokenizer

PARAMS = SamplingParams()


def job(label: str) -> Job:
    return Job(Request((1,), PARAMS, label=label))


def run(label: str, turn: int = scheduling.TURN) -> Any:
    return SimpleNamespace(job=job(label), turn=turn, replying=True)


@pytest.mark.parametrize(
    ("running", "waiting", "places", "paused"),
    [
        ("aaab", "aaaa", 4, "aaa"),  # b is alone in its half
        ("aabb", "aacc", 4, "aabb"),  # three in four slots: one each, and each has two
        ("aabb", "aa", 4, ""),  # half of the places each
        ("abcd", "e", 4, "abcd"),  # more requests than slots: all take turns
        ("aaaa", "aaaa", 4, ""),  # nobody else: in order of arrival
        ("a", "b", 1, "a"),
    ],
)
def test_who_has_had_a_turn(running: str, waiting: str, places: int, paused: str) -> None:
    queue: RequestQueue[Any] = RequestQueue()
    for label in waiting:
        queue.put(job(label))
    found = scheduling.replies_to_pause([run(label) for label in running], queue, places)
    assert "".join(each.job.request.label for each in found) == paused


def test_requests_without_a_label_are_each_somebody() -> None:
    queue: RequestQueue[Any] = RequestQueue()
    queue.put(job(""))
    assert len(scheduling.replies_to_pause([run(""), run("")], queue, 2)) == 2


@pytest.mark.parametrize(
    ("running", "waiting", "order"),
    [
        ("aa", "aabc", "bcaa"),  # those without a slot
        ("", "abab", "abab"),
        ("a", "a!b", "a!b"),  # nobody passes a task: behind it another adapter acts
    ],
)
def test_who_is_next(running: str, waiting: str, order: str) -> None:
    queue: RequestQueue[Any] = RequestQueue()
    for label in waiting:
        queue.put(EngineTask(lambda: None, "!") if label == "!" else job(label))
    runs = [run(label) for label in running]
    came = ""
    while item := scheduling.next_request(runs, queue):
        came += item.job.request.label
        queue.take()
        if item.job.request.label != "!" and running:
            runs.append(item)
    assert came == order


def test_with_one_place_clients_take_turns() -> None:
    queue: RequestQueue[Any] = RequestQueue()
    for label in "aaabb":
        queue.put(job(label))
    came = ""
    while item := scheduling.next_request([], queue, came[-1:]):
        came += item.job.request.label
        queue.take()
    assert came == "ababa"


def test_who_left_the_queue_before_it_began_comes_back_to_where_it_was() -> None:
    queue: RequestQueue[Any] = RequestQueue()
    paused, first, second, third = (job(label) for label in "p123")
    paused.start()
    for item in (first, third, paused):
        queue.put(item)
    queue.requeue_by_age(second)
    assert queue.jobs() == [first, second, third, paused]


def test_one_reply_goes_on_beside_a_client_with_many() -> None:
    engine = EngineUnderTest(EngineModel(CountingEngine(), small_tokenizer()), samples=False)
    many = engine.fill(150, label="many")
    many += [engine.start(number, 150, "many") for number in range(2, 7)]
    one = engine.start(9, 150, "one")
    engine.go_on()
    assert [len(list(stream)) for stream in (*many, one)] == [150] * 8

    def ended(stream: Job) -> float:
        return stream.first_token + stream.report.decode_seconds

    before = [stream for stream in many if ended(stream) < ended(one)]
    assert len(before) <= 4, "it had a place of two for itself: meanwhile the other one gave two or three replies"
    engine.model.close()
