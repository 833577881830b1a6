"""A model in its own process does what the same model does in this one, to the last token."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from errors import Cancelled, InvalidGrammar, InvalidInput, InvalidToken, PromptTooLong, Unsupported, UserError
from loaders.base import Finish, Lora, Model, Report, Request, Token
from loaders.params import SamplingParams
from modules.families.reply_format import ReplyFormat
from modules.families.table import family_named
from modules.generation.thought_budget import ThoughtBudget

FRANCE = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
GREEDY = SamplingParams(do_sample=False)
AVOIDING = GREEDY.changed(banned_strings="capital of\nfrance is\n/the [a-z]+ of/")
Floats = npt.NDArray[np.float32]


def written(model: Model, params: SamplingParams, prompt: str = FRANCE, **more: object) -> tuple[list[Token], Report]:
    ids = model.tokenizer.encode(prompt)
    more = {name: value(model) if callable(value) else value for name, value in more.items()}
    stream = model.generate(Request(ids, params, 24, **more))  # type: ignore[arg-type]
    return list(stream), stream.report


def negative(model: Model) -> Sequence[int]:
    return model.tokenizer.encode("Paris is")


class Reversing:
    """A processor that needs the logits."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    def __call__(self, ids: Sequence[int], logits: Floats) -> Floats:
        self.ids = list(ids)
        logits[: logits.size // 2] -= 3
        return logits


def reversing(_: Model) -> Sequence[Reversing]:
    return [Reversing()]


def short_thought(model: Model) -> Sequence[ThoughtBudget]:
    return [ThoughtBudget(ReplyFormat(family_named("qwen"), "<think>\n"), model.tokenizer, 7)]


@pytest.mark.parametrize(
    ("params", "more"),
    [
        (GREEDY, {}),
        (SamplingParams(temperature=1.5, seed=7), {}),
        (GREEDY.changed(guidance_scale=1.7), {"negative_ids": negative}),
        (GREEDY.changed(grammar_string='root ::= "It is " [a-z]+ "."'), {}),
        (GREEDY, {"alternatives": 4}),
        (GREEDY, {"logit_bias": {1000: 100.0}}),
        (GREEDY, {"processors": reversing}),
        (GREEDY, {"processors": short_thought}),
        (GREEDY, {"processors": lambda model: [*reversing(model), *short_thought(model)]}),
        (AVOIDING, {}),
        (AVOIDING.changed(grammar_string="root ::= [a-zA-Z ,.]+"), {"alternatives": 2}),
        (AVOIDING, {"processors": reversing}),
        (AVOIDING, {"processors": short_thought}),
        (GREEDY, {"begun": lambda _: b"The cap"}),
    ],
    ids=[
        "greedy",
        "seeded",
        "guidance",
        "grammar",
        "alternatives",
        "bias",
        "processor",
        "forced",
        "both",
        "avoiding",
        "avoiding with a grammar",
        "avoiding, processor",
        "avoiding, forced",
        "begun",
    ],
)
def test_it_writes_the_same(
    local: Model,
    remote: Model,
    params: SamplingParams,
    more: dict[str, Callable[[Model], object]],
    request: pytest.FixtureRequest,
) -> None:
    prompt = f"{request.node.name}\n{FRANCE}"  # its own from the first word: read whole in both
    here, report = written(local, params, prompt, **more)
    there, remote_report = written(remote, params, prompt, **more)
    assert [(each.id, each.data) for each in there] == [(each.id, each.data) for each in here]
    for mine, its in zip(here, there, strict=True):
        assert its.logprob == pytest.approx(mine.logprob, abs=1e-4)
        assert [each.id for each in its.alternatives] == [each.id for each in mine.alternatives]
    plain = ("prompt_tokens", "new_tokens", "finish", "warnings", "replaced", "taken_back")
    assert [getattr(remote_report, name) for name in plain] == [getattr(report, name) for name in plain]
    assert remote_report.prompt_seconds > 0
    assert not params.do_sample or remote_report.seed == report.seed == params.seed


def test_a_processor_sees_the_prompt_and_what_was_written(remote: Model) -> None:
    seen = Reversing()
    tokens, _ = written(remote, GREEDY.changed(ban_eos_token=True), processors=[seen])
    assert seen.ids == [*remote.tokenizer.encode(FRANCE), *(each.id for each in tokens[:-1])]


def test_numbers_are_the_same(local: Model, remote: Model) -> None:
    ids = local.tokenizer.encode(f"Numbers\n{FRANCE}")
    assert np.allclose(remote.next_logits(Request(ids)), local.next_logits(Request(ids)), atol=1e-3)
    assert np.allclose(remote.score(ids, None, 2), local.score(ids, None, 2), atol=1e-3)
    assert np.allclose(remote.embed([ids, ids[:4]]), local.embed([ids, ids[:4]]), atol=1e-3)
    grammar = 'root ::= "a" | "b"'
    assert np.array_equal(remote.grammar_start(grammar), local.grammar_start(grammar))


def test_what_is_said_of_it_is_the_same(local: Model, remote: Model) -> None:
    for name in ("name", "loader", "context_length", "options", "unsupported", "loras"):
        assert getattr(remote, name) == getattr(local, name), name
    assert remote.memory > 0
    assert remote.notes
    mine, its = local.tokenizer, remote.tokenizer
    for name in ("n_vocab", "bos_token", "eos_token", "chat_template", "end_ids", "control", "special_ids"):
        assert getattr(its, name) == getattr(mine, name), name
    text = "Zwei  Leerzeichen, ünïcode 日本語 🦙 <|im_end|> " * 3
    for special in (True, False):
        assert its.encode(text, special=special) == mine.encode(text, special=special)
    for token in (0, 1, 2, 500, its.n_vocab - 1):
        assert its.is_special(token) == mine.is_special(token)
        for special in (True, False):
            assert its.piece(token, special=special) == mine.piece(token, special=special)
    with pytest.raises(InvalidToken):
        its.piece(its.n_vocab)
    with pytest.raises(InvalidInput):
        its.encode("\ud800")


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda model: model.generate(Request([1] * 3000)), PromptTooLong),
        (lambda model: model.generate(Request([10**6])), InvalidToken),
        (lambda model: model.generate(Request([1], alternatives=-1)), InvalidInput),
        (lambda model: next(model.generate(Request([1], SamplingParams(grammar_string="root ::= (")))), InvalidGrammar),
        (lambda model: model.embed([[1] * 3000]), PromptTooLong),
        (lambda model: model.set_loras([Lora(Path("missing"))]), UserError),
    ],
    ids=["long", "token", "alternatives", "grammar", "embedding", "adapter"],
)
def test_it_refuses_with_the_same_words(
    local: Model, remote: Model, ask: Callable[[Model], object], error: type[UserError]
) -> None:
    texts = []
    for model in (local, remote):
        with pytest.raises(error) as caught:
            ask(model)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert not isinstance(caught.value, Unsupported)


@pytest.mark.parametrize("own_event", [True, False], ids=["its own event", "a plain event"])
def test_a_cancel_arrives_within_a_token_or_two(remote: Model, own_event: bool) -> None:
    more = {} if own_event else {"cancel": threading.Event()}
    request = Request(remote.tokenizer.encode("Once"), GREEDY.changed(ban_eos_token=True), 1500, **more)  # type: ignore[arg-type]
    stream = remote.generate(request)
    next(stream)
    (entry,) = remote.queue()
    assert (entry.id, entry.place) == (request.id, 0)
    entry.cancel.set()
    assert request.cancel.is_set()
    assert sum(1 for _ in stream) < 200
    assert stream.report.finish is Finish.CANCELLED
    assert remote.queue() == []


def test_a_yielding_request_ends_for_another_one(remote: Model) -> None:
    endless = GREEDY.changed(ban_eos_token=True)
    ahead = remote.generate(Request(remote.tokenizer.encode("Once"), endless, 1500, yields=True))
    next(ahead)
    assert remote.queue() == [], "nobody waits for it, so it does not keep the model in use"
    tokens, report = written(remote, GREEDY)
    assert tokens
    assert report.finish in (Finish.STOP, Finish.LENGTH)
    for _ in ahead:
        pass
    assert ahead.report.finish is Finish.CANCELLED


def test_a_call_can_be_cancelled(remote: Model) -> None:
    holding = remote.generate(Request([1], GREEDY.changed(ban_eos_token=True), 1500))
    next(holding)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        remote.score([1] * 1500, cancel)
    cancel = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    with pytest.raises(Cancelled):
        remote.next_logits(Request([1] * 1500, cancel=cancel))
    remote.queue()[0].cancel.set()
    for _ in holding:
        pass


def test_replies_run_at_the_same_time(remote: Model) -> None:
    """Many streams over one pipe: each gets its own tokens."""
    ids = remote.tokenizer.encode("Once")
    streams = [remote.generate(Request(ids, GREEDY, 24, logit_bias={1000 + n: 100.0})) for n in range(6)]
    found: list[list[int]] = [[] for _ in streams]

    def read(number: int) -> None:
        found[number] = [each.id for each in streams[number]]

    threads = [threading.Thread(target=read, args=(number,)) for number in range(len(streams))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [[1000 + number] * 24 for number in range(len(streams))]


def test_the_budget_of_a_thought_needs_no_logits(remote: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those come over the pipe for processors that want them alone."""
    from loaders.process.remote_job import RemoteProcessors

    asked = []
    original = RemoteProcessors.ask
    monkeypatch.setattr(RemoteProcessors, "ask", lambda self, message: (asked.append(message), original(self, message)))
    written(remote, GREEDY, processors=short_thought)
    assert asked
    assert all(each.logits is None for each in asked)
    assert asked[0].at + len(asked[0].ids) == len(remote.tokenizer.encode(FRANCE)) + 7  # not before the budget is spent


def test_a_processor_that_never_answers_is_cancelled_and_the_others_go_on(remote: Model) -> None:
    asked, release, answered = threading.Event(), threading.Event(), threading.Event()

    def hanging(ids: Sequence[int], logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        asked.set()
        release.wait(60)
        answered.set()
        return logits

    ids = remote.tokenizer.encode("Once")
    request = Request(ids, GREEDY, 20, processors=[hanging])
    stuck = remote.generate(request)
    assert asked.wait(30)
    beside = remote.generate(Request(ids, GREEDY, 20))
    request.cancel.set()
    assert len(list(stuck)) <= 1
    assert stuck.report.finish is Finish.CANCELLED
    assert list(beside)
    text, _ = written(remote, GREEDY, processors=short_thought)
    assert text
    assert not answered.is_set(), "the others did not wait for it"
    release.set()


def test_a_thought_is_ended_when_somebody_says_so(remote: Model) -> None:
    budget = ThoughtBudget(ReplyFormat(family_named("qwen"), "<think>\n"), remote.tokenizer)
    request = Request(remote.tokenizer.encode("Once"), GREEDY.changed(ban_eos_token=True), 600, processors=[budget])
    stream = remote.generate(request)
    text = b"".join(next(stream).data for _ in range(5))
    assert budget.end()
    for token in stream:
        text += token.data
        if b"</think>" in text:
            break
    request.cancel.set()
    assert b"</think>" in text
    assert dataclasses.is_dataclass(stream.report)
