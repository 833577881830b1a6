"""What engines do between two steps for somebody who waits, with each engine: to forget whom something was computed
for.
"""

from __future__ import annotations

import pytest

from loaders.base import Finish
from tests.loaders.engine.engines import HANG, EngineUnderTest, in_thread, read


def test_to_forget_waits_for_a_step_and_not_for_the_end(under_test: EngineUnderTest) -> None:
    streams = under_test.fill()
    thread, results = in_thread(lambda: under_test.model.forget("chat"))
    while thread.is_alive():
        under_test.let_one_go()
        thread.join(0.01)
    assert results == [None]
    assert not any(each.ended for each in streams)
    for each in streams:
        each.request.cancel.set()
    under_test.go_on()


def test_what_is_forgotten_is_not_reused(under_test: EngineUnderTest) -> None:
    """Not even by its own chat; what another one forgets stays."""

    def reused(label: str = "chat") -> int:
        job = under_test.start(1, 3, label)
        read(job)
        return job.report.reused_tokens

    assert reused("chat: reading ahead") == 0
    assert reused() > 0
    under_test.model.forget("another chat")
    assert reused() > 0
    under_test.model.forget("chat")
    assert reused() == 0


def test_what_a_running_request_uses_is_forgotten_at_its_end(under_test: EngineUnderTest) -> None:
    (running,) = under_test.fill(40, count=1, label="chat")
    thread, results = in_thread(lambda: under_test.model.forget("chat"))
    while thread.is_alive():
        under_test.let_one_go()
        thread.join(0.01)
    assert results == [None]
    under_test.go_on()
    assert len(read(running)) == 40
    again = under_test.start(0, 3, "chat")
    assert len(read(again)) == 3
    assert again.report.reused_tokens == 0


def test_a_sleeping_engine_wakes_for_it(under_test: EngineUnderTest) -> None:
    assert len(read(under_test.start(1, 3))) == 3
    thread, results = in_thread(lambda: under_test.model.forget("chat"))
    thread.join(HANG)
    assert results == [None]
    assert len(read(under_test.start(2, 3))) == 3


def test_who_waits_when_it_is_closed_waits_no_longer(under_test: EngineUnderTest) -> None:
    streams = under_test.fill()
    thread, results = in_thread(lambda: under_test.model.forget("chat"))
    under_test.wait_for(lambda: bool(under_test.engine._queue._calls))
    under_test.model.close()
    thread.join(HANG)
    assert results == [None]
    under_test.model.forget("chat")
    assert not any(each.report.finish is Finish.STOP for each in streams)


def test_an_error_in_it_is_for_who_asked(under_test: EngineUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise LookupError

    monkeypatch.setattr(under_test.engine, "_forget_label", fail)
    with pytest.raises(LookupError):
        under_test.model.forget("chat")
    assert len(read(under_test.start(1, 3))) == 3
