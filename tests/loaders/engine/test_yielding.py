"""Requests of the lowest class, with each engine: they run while nobody waits, and are in nobody's way."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from errors import ModelClosed
from loaders.base import Finish, Request
from loaders.engine.read_ahead import ReadAhead
from loaders.job import Job
from tests.loaders.engine.engines import (
    PARAMS,
    CountingEngine,
    EngineModel,
    EngineUnderTest,
    decoder_model,
    read,
    small_tokenizer,
)


def yielding(under_test: EngineUnderTest, number: int, tokens: int = 400) -> Job:
    return under_test.start(number, tokens, yields=True)


def test_it_runs_to_its_end_while_nobody_waits(under_test: EngineUnderTest) -> None:
    assert len(read(yielding(under_test, 1, 5))) == 5


def test_who_comes_waits_for_one_step_at_most(under_test: EngineUnderTest) -> None:
    under_test.hold()
    ahead = yielding(under_test, 1)
    while not ahead.report.new_tokens:
        under_test.let_one_go()
    under_test.wait_for(lambda: ahead.report.new_tokens > 0)
    waiting = under_test.start(2, 3)
    under_test.let_one_go()
    under_test.wait_for(lambda: [run.job for run in under_test.engine._runs] == [waiting])
    under_test.go_on()
    assert len(read(waiting)) == 3
    read(ahead)
    assert ahead.report.finish is Finish.CANCELLED


def test_it_waits_for_all_others_and_is_not_in_the_queue(under_test: EngineUnderTest) -> None:
    running = under_test.fill(6)
    ahead = yielding(under_test, 9, 2)
    waiting = under_test.start(8, 3)
    assert [each.id for each in under_test.model.queue()] == [each.request.id for each in [*running, waiting]]
    under_test.go_on()
    for each in [*running, waiting]:
        read(each)
    read(ahead)  # an engine with one cache refuses it, because the cache holds another text
    assert ahead.report.finish is Finish.LENGTH or "one cache" in ahead.report.warnings[0]
    assert not ahead.started or ahead.started >= max(each.started for each in [*running, waiting])
    assert not under_test.model.queue()


def test_it_is_cancelled_while_it_waits(under_test: EngineUnderTest) -> None:
    running = under_test.fill()
    ahead = yielding(under_test, 9)
    ahead.request.cancel.set()
    under_test.let_one_go()
    assert read(ahead) == []
    assert all(each.report.finish is None for each in running)


def test_a_change_of_adapters_does_not_wait_for_it(under_test: EngineUnderTest) -> None:
    ahead = yielding(under_test, 1)
    under_test.model._between_requests(lambda: None, label="a task")
    read(ahead)


def test_close_ends_it_whether_it_runs_or_waits(under_test: EngineUnderTest) -> None:
    under_test.hold()
    both = [yielding(under_test, number) for number in (1, 2)]
    under_test.let_one_go()
    under_test.model.close()
    for each in both:
        with pytest.raises(ModelClosed):
            read(each)


class RecordingEngine(CountingEngine):
    """Notes who takes part in each step."""

    def __init__(self) -> None:
        self.steps: list[tuple[list[int], list[int]]] = []  # of others, of yielding requests
        self.came: dict[int, int] = {}  # the number of steps begun when an ordinary request was submitted
        self.guard = threading.Lock()
        super().__init__()

    def submit(self, job: Job) -> None:
        with self.guard:
            super().submit(job)
            self.came[job.request.id] = len(self.steps)

    def _step(self) -> bool:
        with self.guard:
            others = [run.job.request.id for run in self._runs if not run.job.request.yields]
            ahead = [run.job.request.id for run in self._runs if run.job.request.yields]
            self.steps.append((others, ahead))
        return super()._step()


@pytest.mark.parametrize("seed", range(5))
def test_in_any_order_of_arrivals_no_more_than_one_step_is_theirs(seed: int) -> None:
    draw, engine = random.Random(seed), RecordingEngine()
    model = EngineModel(engine, small_tokenizer())
    streams: list[Any] = []
    for number in range(300):
        request = Request([number], PARAMS, draw.randint(1, 6), yields=draw.random() < 0.5)
        streams.append(model.generate(request))
        if draw.random() < 0.3:
            read(draw.choice(streams))
    for stream in streams:
        read(stream)
    model.close()
    for stream in streams:
        if stream.request.yields:
            continue
        steps = [at for at, (others, _) in enumerate(engine.steps) if stream.request.id in others]
        before = range(engine.came[stream.request.id], steps[0])
        assert sum(bool(engine.steps[at][1]) for at in before) <= 1
    assert sum(bool(ahead) for _, ahead in engine.steps) > 10, "they run now and then"


def test_what_was_read_ahead_is_told(under_test: EngineUnderTest) -> None:
    if not under_test.samples:
        pytest.skip("it draws no tokens")
    prompt = under_test.prompt(1)
    list(under_test.model.generate(Request(prompt[:20], PARAMS, 1, yields=True)))
    ahead = under_test.model.generate(Request(prompt[:40], PARAMS, 1, yields=True))
    list(ahead)
    assert ahead.report.read_tokens == ahead.report.prompt_tokens - ahead.report.reused_tokens
    stream = under_test.model.generate(Request(prompt, PARAMS, 2))
    list(stream)
    if stream.report.reused_tokens:  # ExLlamaV2's pages are longer
        assert stream.report.ahead_tokens == stream.report.reused_tokens
        assert "read ahead" in stream.report.reuse_reason
    again = under_test.model.generate(Request(prompt, PARAMS, 2))
    list(again)
    assert again.report.ahead_tokens == 0, "now it is its own text"


def test_one_cache_is_not_given_to_another_text() -> None:
    model = decoder_model()
    list(model.generate(Request([40, 41, 42], PARAMS, 2)))
    refused = model.generate(Request([50, 51], PARAMS, 1, yields=True))
    assert list(refused) == []
    assert "one cache" in refused.report.warnings[0]
    again = model.generate(Request([40, 41, 42], PARAMS, 2))
    list(again)
    assert again.report.reused_tokens == 2
    model.close()


def test_reading_ahead_counts_only_what_a_yielding_request_read() -> None:
    ahead = ReadAhead()

    def ended(ids: list[int], reused: int, *, yields: bool, held: int | None = None) -> Job:
        job = Job(Request(ids, yields=yields))
        job.report.reused_tokens = reused
        ahead.settle(job, len(ids) if held is None else held)
        return job

    ended([1, 2, 3, 4], 2, yields=True)
    ended([1, 2, 3, 4, 5, 6], 4, yields=True, held=5)
    assert ended([9, 9], 0, yields=False).report.ahead_tokens == 0
    job = ended([1, 2, 3, 4, 5, 7, 8], 5, yields=False)
    assert (job.report.ahead_tokens, job.report.read_tokens) == (3, 2)
    assert ended([1, 2, 3, 4, 5, 7, 8], 6, yields=False).report.ahead_tokens == 0
