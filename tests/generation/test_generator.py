"""From prompt to stream: the token budget, ending a stream in every way, and the report."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from errors import (
    Cancelled,
    EmptyPrompt,
    EngineFailed,
    InvalidInput,
    InvalidToken,
    ModelClosed,
    NoModelLoaded,
    PromptTooLong,
)
from loaders.base import Finish, Report, Token
from loaders.params import SamplingParams
from modules.generation.generator import Generator
from modules.generation.session import ModelSession
from modules.generation.stream import TextStream
from tests.fake_engine import BOS, FakeModel, FakeModels


def generator(model: FakeModel) -> Generator:
    return Generator(FakeModels(model))


def session(model: FakeModel) -> ModelSession:
    return generator(model).session()


def params(**values: Any) -> SamplingParams:
    return SamplingParams.parse(values)


def text_of(stream: TextStream) -> str:
    return "".join(piece.text for piece in stream)


def test_a_reply_comes_as_text_with_a_report() -> None:
    stream = session(FakeModel("Pâris 😀.")).start("Where?", params(seed=7))
    assert text_of(stream) == "Pâris 😀." == stream.text
    assert (stream.report.finish, stream.report.seed) == (Finish.STOP, 7)
    assert stream.report.new_tokens == len("Pâris 😀.".encode())
    assert stream.report.prompt_tokens == len("Where?") + 1


def test_a_models_start_values_count_where_nothing_else_was_asked_for() -> None:
    kept = {"custom_stopping_strings": '"### End"', "truncation_length": 40, "skip_special_tokens": False}
    own = Generator(FakeModels(FakeModel("One ### End two")), kept=lambda name: kept if name else {}).session()
    assert text_of(own.start("x", params(max_new_tokens=30))) == "One "
    assert text_of(own.start("x", params(custom_stopping_strings='"two"', max_new_tokens=30))) == "One ### End "
    assert own.context(params()) == 40
    assert own.context(params(truncation_length=50)) == 50
    assert own.max_prompt(params(max_new_tokens=10)) == 30
    assert own.params(params()).skip_special_tokens is False


def test_without_a_seed_one_is_drawn_and_told() -> None:
    stream = session(FakeModel()).start("x", params())
    text_of(stream)
    assert stream.report.seed >= 0


def test_embedding_ends_after_a_text_when_it_is_cancelled() -> None:
    cancel = threading.Event()

    class Deaf(FakeModel):
        """Its engine never checks for cancellation; the client disconnects while the second text is read."""

        def embed(self, texts: Sequence[Sequence[int]], _: threading.Event | None = None) -> npt.NDArray[np.float32]:
            read.extend(texts)
            if len(read) >= 2:
                cancel.set()
            return np.ones((len(texts), 3), np.float32)

    read: list[Any] = []
    with pytest.raises(Cancelled):
        session(Deaf()).embed(["a", "b", "c"], cancel)
    assert len(read) == 2
    cancel.clear()
    read.clear()
    assert session(Deaf()).embed(["a"], cancel).vectors.shape == (1, 3)


# --- where it ends ---


@pytest.mark.parametrize("reply", ["Paris.\nYou: and?", ["Paris.", "\nYo", "u", ": and", "?"]])
def test_a_stop_string_ends_it_and_frees_the_engine(reply: str | Sequence[str]) -> None:
    model = FakeModel(reply)
    stream = session(model).start("x", params(), stop=["\nYou:"])
    pieces = [piece.text for piece in stream]
    assert "".join(pieces) == "Paris."
    assert stream.stopped_by == "\nYou:"
    assert stream.report.finish is Finish.STOP
    assert model.running == 0


def test_custom_stopping_strings_count_too() -> None:
    stream = session(FakeModel("one two three")).start("x", params(custom_stopping_strings='"thr", " two"'))
    assert text_of(stream) == "one"


def test_bad_custom_stopping_strings_are_a_sentence_and_leave_nothing_behind() -> None:
    made = generator(FakeModel())
    with pytest.raises(InvalidInput, match="quotes"):
        made.session().start("x", params(custom_stopping_strings="no quotes"))
    assert made.queue() == []


def test_max_tokens_end_it_as_length() -> None:
    stream = session(FakeModel("x" * 1000)).start("x", params(max_new_tokens=10))
    assert text_of(stream) == "x" * 10
    assert stream.report.finish is Finish.LENGTH


def test_a_thousand_tokens() -> None:
    stream = session(FakeModel("y" * 1000)).start("x", params(max_new_tokens=1000))
    assert text_of(stream) == "y" * 1000


def test_control_tokens_show_only_when_asked_for() -> None:
    reply = ["a", "<|im_start|>", "b"]
    assert text_of(session(FakeModel(reply)).start("x", params())) == "ab"
    shown = session(FakeModel(reply)).start("x", params(skip_special_tokens=False))
    assert text_of(shown) == "a<|im_start|>b"


def test_a_hidden_control_token_still_stops() -> None:
    stream = session(FakeModel(["a", "<|im_end|>", "b"])).start("x", params(), stop=["<|im_end|>"])
    assert text_of(stream) == "a"
    assert stream.report.finish is Finish.STOP


def test_control_tokens_do_not_tear_a_stop_string() -> None:
    stream = session(FakeModel(["ab", "<|im_start|>", "cd"])).start("x", params(), stop=["abc"])
    assert text_of(stream) == ""


# --- ending it from outside ---


def held() -> tuple[FakeModel, Generator, TextStream]:
    model = FakeModel("abcdef", hold_after=2)
    made = generator(model)
    return model, made, made.session().start("x", params(), label="me")


def test_cancel_from_another_thread_keeps_what_is_there() -> None:
    model, made, stream = held()
    threading.Thread(target=lambda: (model.holding.wait(5), stream.cancel())).start()
    assert text_of(stream) == "ab"
    assert stream.report.finish is Finish.CANCELLED
    assert (model.running, made.queue()) == (0, [])


def test_cancel_shows_nothing_that_came_meanwhile() -> None:
    stream = session(FakeModel("abcdef")).start("x", params())
    next(stream)
    stream.cancel()
    assert text_of(stream) == ""
    assert (stream.text, stream.report.finish) == ("a", Finish.CANCELLED)


def test_leaving_the_with_block_by_an_error_frees_the_engine() -> None:
    model, made, stream = held()

    def consume() -> None:
        with stream:
            next(stream)
            raise RuntimeError("the consumer broke")

    with pytest.raises(RuntimeError):
        consume()
    assert (model.running, made.queue()) == (0, [])


def test_a_stream_that_nobody_holds_frees_the_engine() -> None:
    model, made, stream = held()
    next(stream)
    del stream
    gc.collect()
    assert (model.running, made.queue()) == (0, [])


def test_closing_a_generator_around_it_frees_the_engine() -> None:
    model, made, stream = held()

    def consumer() -> Any:
        with stream:
            yield from stream

    consuming = consumer()
    next(consuming)
    consuming.close()
    assert (model.running, made.queue()) == (0, [])


def test_an_engine_that_fails_mid_reply_raises_and_is_no_longer_counted() -> None:
    made = generator(FakeModel("abcdef", fail_after=3))
    stream = made.session().start("x", params())
    with pytest.raises(EngineFailed):
        text_of(stream)
    assert stream.text == "abc"
    assert made.queue() == []


def test_a_model_that_is_swapped_meanwhile_says_so() -> None:
    model, made, stream = held()
    next(stream)
    model.close()
    with pytest.raises(ModelClosed):
        text_of(stream)
    with pytest.raises(ModelClosed):
        made.session().start("x", params())
    assert made.queue() == []


# --- the queue's view ---


def test_a_request_counts_from_the_moment_it_is_asked() -> None:
    model = FakeModel("abcdef", hold_after=2)
    made = generator(model)
    first = made.session().start("x", params(), label="first")
    second = made.session().start("x", params(), label="second")
    assert [(each.label, each.place) for each in made.queue()] == [("first", 1), ("second", 2)]
    next(first), next(first)
    view = made.queue()
    assert [(each.new_tokens, each.place) for each in view] == [(2, 0), (0, 1)]
    first.close(), second.close()
    assert made.queue() == []


# --- the budget ---


def test_the_prompt_may_use_what_the_reply_leaves() -> None:
    made = generator(FakeModel(context_length=100))
    assert made.session().max_prompt(params(max_new_tokens=30)) == 70
    assert made.session().max_prompt(params(max_new_tokens=30, truncation_length=50)) == 20
    assert made.session().max_prompt(params(max_new_tokens=30, truncation_length=5000)) == 70
    assert made.session().max_prompt(params(auto_max_new_tokens=True)) == 99
    assert made.session().max_prompt(params(max_new_tokens=512)) == 0


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers() -> None:
    model = FakeModel(context_length=100)
    made = generator(model)
    with pytest.raises(PromptTooLong, match="71 tokens, but only 70 fit"):
        made.session().start("x" * 70, params(max_new_tokens=30))  # and the start token
    assert text_of(made.session().start("x" * 69, params(max_new_tokens=30))) == "Paris."
    with pytest.raises(PromptTooLong, match=r"6 tokens, but the requested reply leaves no room for it.*\. Request a"):
        made.session().start("short", params(max_new_tokens=150))
    model.larger_context = "ask the server"
    with pytest.raises(PromptTooLong, match=r"\(max_new_tokens, max_tokens\), or ask the server\.$"):
        made.session().start("x" * 70, params(max_new_tokens=30))
    assert made.queue() == []


def test_auto_max_new_tokens_is_all_that_is_left() -> None:
    model = FakeModel("z" * 500, context_length=100)
    stream = session(model).start("x" * 59, params(auto_max_new_tokens=True, max_new_tokens=10))
    assert text_of(stream) == "z" * 40


def test_the_start_token_is_never_doubled() -> None:
    model = FakeModel()
    made = generator(model)
    for prompt in ("hi", "<s>hi", "<s><s>hi"):
        made.session().start(prompt, params()).close()
        assert list(model.requests[-1].ids) == [BOS, *b"hi"]
    made.session().start("<s>hi", params(add_bos_token=False)).close()
    assert list(model.requests[-1].ids) == [*b"hi"]


def test_a_model_that_adds_no_start_token_keeps_the_templates() -> None:
    """SmolLM2's bos_token is "<|im_start|>", which its template needs and its tokenizer never adds."""
    model = FakeModel(adds_bos=False)
    session(model).start("<s>hi", params()).close()
    assert list(model.requests[-1].ids) == [BOS, *b"hi"]


def test_token_ids_are_taken_as_they_are() -> None:
    model = FakeModel()
    made = generator(model)
    made.session().start([104, 105], params()).close()
    assert list(model.requests[-1].ids) == [104, 105]
    with pytest.raises(InvalidToken):
        made.session().start([104, 10**9], params())
    with pytest.raises(EmptyPrompt):
        made.session().start([], params())


def test_half_a_character_is_a_sentence() -> None:
    with pytest.raises(InvalidInput, match="lone surrogate"):
        session(FakeModel()).start("a \ud83d b", params())


def test_an_empty_prompt_without_start_token_is_a_sentence() -> None:
    with pytest.raises(EmptyPrompt):
        session(FakeModel()).start("", params(add_bos_token=False))


def test_without_a_model_it_says_so() -> None:
    made = Generator(FakeModels(None))
    with pytest.raises(NoModelLoaded):
        made.session().start("x", params())
    assert not made.queue()


# --- knobs ---


def test_a_turned_knob_that_is_not_honoured_is_a_warning() -> None:
    model = FakeModel(unsupported={"tfs": "This engine has no such sampler.", "top_a": "No."})
    stream = session(model).start("x", params(tfs=0.5, top_k=20))
    text_of(stream)
    assert stream.report.warnings == ["tfs has no effect: This engine has no such sampler."]


def test_tokens_and_alternatives_reach_the_reader() -> None:
    model = FakeModel("ab")
    stream = session(model).start("x", params(), alternatives=2, logit_bias={5: 1.0})
    tokens = [token for piece in stream for token in piece.tokens]
    assert [token.data for token in tokens] == [b"a", b"b"]
    assert len(tokens[0].alternatives) == 2
    assert model.requests[-1].logit_bias == {5: 1.0}


def test_max_tokens_second_slows_it_down_and_cancel_does_not_wait_for_it() -> None:
    stream = session(FakeModel("abc")).start("x", params(max_tokens_second=50))
    started = time.monotonic()
    text_of(stream)
    assert time.monotonic() - started >= 0.035
    for rate in (0.1, 1e-300, 5e-324):  # the last two: longer than a lock can wait
        slow = session(FakeModel("abc")).start("x", params(max_tokens_second=rate))
        threading.Timer(0.05, slow.cancel).start()
        started = time.monotonic()
        text_of(slow)
        assert time.monotonic() - started < 8  # the first rate alone would take 20


def test_tokens_that_have_come_already_are_not_shown_after_a_stop() -> None:
    """An engine may be ahead of the reader: stop takes effect at once, whatever is in the queue."""

    class Ahead:
        """All tokens are available, and it does not check for cancellation."""

        def __init__(self) -> None:
            self.report = Report()
            self.given = 0

        def __iter__(self) -> Ahead:
            return self

        def __next__(self) -> Token:
            self.given += 1
            if self.given > 100:
                raise StopIteration
            return Token(97, b"a")

    ahead = Ahead()
    for stop in ("cancel", "close"):
        stream = TextStream(ahead, FakeModel().tokenizer, threading.Event())
        assert [next(stream).text for _ in range(3)] == ["a", "a", "a"]
        before = ahead.given
        getattr(stream, stop)()
        assert text_of(stream) == ""
        assert (stream.text, stream.report.finish, ahead.given) == ("aaa", Finish.CANCELLED, before)
