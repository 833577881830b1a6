"""Replies whose tokens are announced are read by the thread that brings them: the client gets the same, and no thread
waits.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from loaders.base import Report, Request
from loaders.process.remote_job import RemoteJob
from tests.api.conftest import Client
from tests.api.test_many import until
from tests.fake_engine import FakeModel


class PushedModel(FakeModel):
    """Its tokens come as those of a model's process: from one thread, several at once, their reader is woken then."""

    def generate(self, request: Request) -> Any:
        stream, job = super().generate(request), RemoteJob(request)

        def push() -> None:
            count = 0
            try:
                for token in stream:
                    job.receive((0, token.id, token.data, token.logprob, _alternatives(token)))
                    count += 1
                    if count % 3 == 1 or self.hold_after:
                        job.wake()
                job.update(stream.report)
                assert stream.report.finish
                job.finish(stream.report.finish)
            except Exception as error:
                job.finish(error)

        threading.Thread(target=push, name="pushing", daemon=True).start()
        return job


def _alternatives(token: Any) -> tuple[Any, ...]:
    return tuple((each.id, each.data, each.logprob) for each in token.alternatives)


WORDS = ["One ", "two", b"\xc3", b"\xa9", " three", "<|im_end|>", " four", " END", " five"]
CHAT = [{"role": "user", "content": "Count."}]


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "x"},
        {"prompt": "x", "stop": ["four E"]},
        {"prompt": "x", "logprobs": 2, "stream_options": {"include_usage": True}},
        {"prompt": ["x", "y"], "n": 2, "seed": 1},
        {"prompt": "x", "echo": True, "logprobs": 1},
        {"prompt": "x", "max_tokens": 3},
        {"prompt": "x", "max_tokens_second": 400},
        {"messages": CHAT},
        {"messages": CHAT, "logprobs": True, "top_logprobs": 2, "stream_options": {"include_usage": True}},
    ],
)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fail_after", [None, 4])
def test_the_answer_is_the_same(api: Client, body: dict[str, Any], stream: bool, fail_after: int | None) -> None:
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    if not stream:
        body = {name: value for name, value in body.items() if name != "stream_options"}
    found = []
    for kind in (FakeModel, PushedModel):
        api.use(kind(WORDS, fail_after=fail_after))
        answer = api.post(path, {**body, "stream": stream})
        text = re.sub(r'"(id|created)": ?("[^"]*"|\d+)', "", answer.text)
        events = text.split("\n\n")
        if "n" in body:  # events of different replies come in any order, and one that fails ends the others at any time
            events = sorted({each for each in events if "error" in each} if fail_after else events)
        found.append((answer.status_code, events))
    assert found[0] == found[1]
    if fail_after is None:
        assert found[0][0] == 200


@pytest.mark.parametrize("stream", [True, False])
def test_no_thread_waits_for_them_and_a_client_that_leaves_ends_them(api: Client, stream: bool) -> None:
    model = api.use(PushedModel("A long reply. " * 50, hold_after=4))

    def ask() -> None:
        with api.http.stream("POST", "/v1/completions", json={"prompt": "x", "stream": stream}) as answer:
            if stream:
                next(answer.iter_lines())

    if stream:
        ask()  # leaves after the first event
    else:
        client = threading.Thread(target=lambda: api.http.post("/v1/completions", json={"prompt": "x"}), daemon=True)
        client.start()
        assert model.holding.wait(10)
        assert not [each for each in threading.enumerate() if each.name == "reply"]
        api.post("/v1/internal/stop-generation")
        client.join(10)
        assert not client.is_alive()
    assert until(lambda: not model.running)
    assert until(lambda: not [each for each in threading.enumerate() if each.name in ("reply", "pushing")])


def test_an_error_comes_after_the_text_before_it(api: Client) -> None:
    api.use(PushedModel(WORDS, fail_after=2))
    lines = api.post("/v1/completions", {"prompt": "x", "stream": True}).text
    assert lines.index("One ") < lines.index("two") < lines.index('"error"') < lines.index("[DONE]")


class Here:
    """A loop that does at once what it is asked to."""

    watches = True

    def call(self, function: Callable[[], None]) -> None:
        function()


def test_reports_are_those_of_the_process() -> None:
    job, woken = RemoteJob(Request((1,))), []
    job.receive((0, 5, b"a", None, ()))
    job.listen(Here(), lambda: woken.append(job.waiting))
    assert woken == [True]  # what arrived before is announced
    assert next(job).data == b"a"
    assert not job.waiting
    job.update(Report(prompt_tokens=7))
    job.finish(RuntimeError("gone"))
    assert woken == [True, True]
    assert job.report.prompt_tokens == 7
