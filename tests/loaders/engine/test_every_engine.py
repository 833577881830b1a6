"""Behavior that all engines share: cancelling, failure, tasks between steps, closing, and fair scheduling."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import numpy as np
import pytest

from errors import EngineFailed, InvalidInput, ModelClosed, UserError
from loaders.base import Finish, Request
from loaders.job import Job
from loaders.params import SamplingParams
from tests.loaders.engine.engines import HANG, PARAMS, EngineUnderTest, decoder_model, in_thread, next_token, read


def test_who_waits_and_is_cancelled_leaves_at_once(under_test: EngineUnderTest) -> None:
    running = under_test.fill()
    waiting = under_test.start(9)
    waiting.request.cancel.set()
    under_test.let_one_go()
    assert read(waiting) == []
    assert waiting.report.finish is Finish.CANCELLED
    assert [stream.report.finish for stream in running] == [None] * under_test.places


def test_who_runs_and_is_cancelled_ends_within_a_token(under_test: EngineUnderTest) -> None:
    stream, *_ = under_test.fill()
    seen = stream.report.new_tokens
    stream.request.cancel.set()
    under_test.go_on()
    for _ in stream:
        pass
    assert stream.report.finish is Finish.CANCELLED
    assert stream.report.new_tokens <= seen + 1
    assert len(read(under_test.start(8, 3))) == 3


def test_a_step_that_fails_ends_those_in_it_and_the_others_go_on(under_test: EngineUnderTest) -> None:
    running = under_test.fill()
    waiting = under_test.start(9, 3)
    under_test.error = RuntimeError("boom")
    under_test.go_on()
    for stream in running:
        with pytest.raises(EngineFailed, match="boom"):
            read(stream)
    assert len(read(waiting)) == 3
    again = under_test.start(0, 3)
    assert len(read(again)) == 3
    assert again.report.reused_tokens == 0, "it may have been half written"
    assert not under_test.model.queue()


def test_a_request_that_cannot_be_answered_ends_alone(under_test: EngineUnderTest) -> None:
    if not under_test.samples:
        pytest.skip("it draws no tokens")
    first = under_test.start(0, 12)
    banned = dict.fromkeys(range(under_test.model.tokenizer.n_vocab), -np.inf)
    for _ in range(2):
        with pytest.raises(EngineFailed, match="all tokens are banned"):
            read(under_test.start(1, 3, logit_bias=banned))
    assert len(read(first)) == 12


def test_an_engine_that_fails_leaves_nobody_waiting(
    under_test: EngineUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled, *others = [*under_test.fill(), under_test.start(8), under_test.start(9)]

    def broken(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(under_test.engine, "_release", broken)
    cancelled.request.cancel.set()
    under_test.go_on()
    for stream in others:
        with pytest.raises(EngineFailed, match="Unload the model, then load it again"):
            read(stream)
    with pytest.raises(EngineFailed):
        under_test.start(9)


def test_a_task_waits_for_those_before_it_and_those_behind_it_for_the_task(under_test: EngineUnderTest) -> None:
    before = under_test.fill(20, count=1)  # it may be that a place is free
    found: list[list[Finish | None]] = []
    thread, results = in_thread(
        lambda: under_test.model._between_requests(
            lambda: found.append([stream.report.finish for stream in before]), label="a task"
        )
    )
    under_test.wait_for(lambda: any(entry.label == "a task" for entry in under_test.model.queue()))
    behind = under_test.start(8, 3)
    under_test.go_on()
    thread.join(HANG)
    assert results == [None]
    assert found == [[Finish.LENGTH]]
    assert len(read(behind)) == 3
    assert behind.started > max(stream.started for stream in before)
    again = under_test.start(0, 3)
    assert len(read(again)) == 3
    assert again.report.reused_tokens == 0, "what was computed before the task does not hold any more"


@pytest.mark.parametrize(
    ("raised", "error", "reused"),
    [(InvalidInput("Not this one."), InvalidInput, True), (ValueError(), EngineFailed, False)],
)
def test_a_task_that_fails_is_told_and_the_engine_goes_on(
    under_test: EngineUnderTest, raised: Exception, error: type[UserError], reused: bool
) -> None:
    assert len(read(under_test.start(0, 3))) == 3

    def fail() -> None:
        raise raised

    with pytest.raises(error):
        under_test.model._between_requests(fail, label="a task")
    again = under_test.start(0, 3)
    assert len(read(again)) == 3
    assert bool(again.report.reused_tokens) == reused


def test_close_ends_all_who_run_and_all_who_wait(under_test: EngineUnderTest) -> None:
    running = under_test.fill()
    waiting = under_test.start(9)
    task, results = in_thread(lambda: under_test.model._between_requests(lambda: None, label="a task"))
    under_test.wait_for(lambda: len(under_test.model.queue()) == under_test.places + 2)
    under_test.model.close()
    for stream in [*running, waiting]:
        with pytest.raises(ModelClosed):
            read(stream)
    task.join(HANG)
    assert [type(result) for result in results] == [ModelClosed]
    assert not under_test.engine._thread.is_alive()
    with pytest.raises(ModelClosed):
        under_test.start(0)
    under_test.model.close()


def test_the_queue_shows_who_runs_and_who_waits(under_test: EngineUnderTest) -> None:
    running = under_test.fill(written=2)
    waiting = [under_test.start(9, label="a"), under_test.start(8, label="b")]
    entries = under_test.model.queue()
    assert [entry.place for entry in entries] == [0] * under_test.places + [1, 2]
    assert [entry.id for entry in entries] == [stream.request.id for stream in [*running, *waiting]]
    assert [entry.label for entry in entries[-2:]] == ["a", "b"]
    assert all(entry.prompt_tokens == 48 for entry in entries)
    assert all((entry.tokens_per_second > 0) == (entry.place == 0) for entry in entries)


def began(streams: list[Job]) -> list[int]:
    """Their numbers, in the order in which they started."""
    return sorted(range(len(streams)), key=lambda number: streams[number].started)


def test_first_come_first_served(under_test: EngineUnderTest) -> None:
    first = under_test.fill(8)
    streams = [under_test.start(number, 3) for number in range(10, 16)]
    under_test.go_on()
    assert [len(read(stream)) for stream in streams] == [3] * 6
    assert began(streams) == list(range(6))
    assert max(stream.started for stream in first) < streams[0].started


def test_a_client_with_many_requests_lets_another_in_between(under_test: EngineUnderTest) -> None:
    many = under_test.fill(8, count=1, label="many")
    many += [under_test.start(number, 3, label="many") for number in range(1, 6)]
    one = under_test.start(9, 3, label="one")
    under_test.go_on()
    assert len(read(one)) == 3
    assert [len(read(stream)) for stream in many] == [8, 3, 3, 3, 3, 3]
    assert began([*many, one])[:2] == [0, 6]


class EndlessSearch:
    """A search that ends when it is cancelled."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    def wants(self, params: SamplingParams) -> bool:
        return params.num_beams > 1

    def run(self, job: Job, max_new: int, go_on: Callable[[], bool]) -> Iterator[int]:
        self.begun.set()
        while go_on():
            pass
        yield 65


@pytest.mark.parametrize("closed", [False, True])
def test_a_search_ends_when_nobody_wants_it(closed: bool) -> None:
    search = EndlessSearch()
    model = decoder_model(search)
    stream = model.generate(Request([40], SamplingParams(num_beams=2), 9))
    assert search.begun.wait(HANG)
    waiting = model.generate(Request([41], SamplingParams(), 3))
    waiting.request.cancel.set()  # type: ignore[attr-defined]
    assert read(waiting) == []  # it does not have to wait for the one before it
    if closed:
        model.close()
        with pytest.raises(ModelClosed):
            read(stream)
    else:
        stream.request.cancel.set()  # type: ignore[attr-defined]
        assert read(stream) == []
        assert stream.report.finish is Finish.CANCELLED
    model.close()


class HeldGrammar:
    """Allows everything. Its first answer arrives when the test says so, all others immediately."""

    problem = None

    def __init__(self) -> None:
        self.first: Future[bytes | None] = Future()
        self.asked = threading.Event()

    def of(self, params: SamplingParams) -> HeldGrammar | None:
        return self if params.grammar_string else None

    def ready(self, _seconds: float = 0) -> bool:
        return True

    def attempt(self, _token: int) -> Future[bytes | None]:
        answer: Future[bytes | None] = Future()
        if not self.asked.is_set():
            self.asked.set()
            return self.first
        answer.set_result(None)
        return answer

    def close(self) -> None:
        pass


def test_a_reply_whose_grammar_is_slow_goes_on_where_it_was() -> None:
    """It gives up the only place to a request that leaves as many tokens in the cache, and is read again after it."""
    grammar = HeldGrammar()
    model = decoder_model(grammars=grammar)
    slow = model.generate(Request([40], PARAMS.changed(grammar_string="slow"), 6))
    assert grammar.asked.wait(HANG)
    (other,) = read(model.generate(Request([90], PARAMS, 1)))
    assert other.id == next_token([90])
    assert slow.report.new_tokens == 0
    grammar.first.set_result(None)
    text = [40]
    for token in read(slow):
        assert token.id == next_token(text)
        text.append(token.id)
    assert len(text) == 7
    model.close()
