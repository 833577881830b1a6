"""Many requests on one engine: the same text as alone, taking turns while others wait, a full context."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loaders import loader_named
from loaders.base import Finish, Model, Request, Token, TokenStream
from loaders.engine.scheduling import TURN
from loaders.params import SamplingParams
from loaders.prefix import common_prefix
from tests.conftest import keep_going

Load = Callable[..., Model]


@pytest.fixture
def load(small_gguf: Path, demo_model_path: Path) -> Iterator[Load]:
    loader, loaded = loader_named("llama.cpp"), []

    def load(*, exact: bool = False, **options: object) -> Model:
        """`exact`: the demo model, whose quantized weights round alike however many rows are read at once."""
        options = {"n_ctx": 2048, "threads": 1, "threads_batch": 1, "parallel": 4, **options}
        path = demo_model_path if exact else small_gguf
        loaded.append(loader.load(path, loader.Options.parse(options), keep_going))
        return loaded[-1]

    yield load
    for model in loaded:
        model.close()


def ids_of(tokens: TokenStream | list[Token]) -> list[int]:
    return [token.id for token in tokens]


def request(model: Model, number: int, tokens: int = 40, **params: object) -> Request:
    prompt = model.tokenizer.encode(f"Story {number}: once upon a time, in a land far away, there lived")
    knobs = {"seed": 100 + number, "temperature": 0.8, "top_p": 0.95, "repetition_penalty": 1.1, "ban_eos_token": True}
    return Request(prompt, SamplingParams(**{**knobs, **params}), tokens)


def test_the_same_seed_gives_the_same_text_alone_and_in_a_batch_of_four(load: Load) -> None:
    """To the bit, if each request has its own context. docs/engine.md says what a shared one guarantees."""
    model = load(exact=True, separate_contexts=True, n_ctx=512)
    alone = [ids_of(model.generate(request(model, i))) for i in range(4)]
    streams = [model.generate(request(model, i)) for i in range(4)]
    assert [ids_of(stream) for stream in streams] == alone
    assert len({tuple(ids) for ids in alone}) == 4


def test_in_a_shared_context_the_model_says_the_same_up_to_rounding(load: Load) -> None:
    model = load()
    alone = [list(model.generate(replace(request(model, i), alternatives=0))) for i in range(4)]
    streams = [model.generate(replace(request(model, i), alternatives=0)) for i in range(4)]
    for before, now in zip(alone, map(list, streams), strict=True):
        same = common_prefix(ids_of(before), ids_of(now))
        assert same
        for a, b in zip(before[:same], now[:same], strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=0.25)


def test_a_short_reply_need_not_wait_for_long_ones(load: Load) -> None:
    model = load(exact=True, parallel=2, separate_contexts=True)
    expected = ids_of(model.generate(request(model, 0, 3 * TURN)))
    long = [model.generate(request(model, i, 3 * TURN)) for i in range(2)]
    short = model.generate(request(model, 2, 4))
    assert len(ids_of(short)) == 4
    assert max(stream.report.new_tokens for stream in long) < 2 * TURN + 8  # it was admitted after one turn
    assert ids_of(long[0]) == expected  # no text is affected
    assert len(ids_of(long[1])) == 3 * TURN


def test_turns_keep_the_reuse_of_the_first_prompt_and_the_place_in_the_queue(load: Load) -> None:
    model = load(parallel=1)
    streams = [model.generate(request(model, i, 2 * TURN)) for i in range(3)]
    first = [next(stream).id for stream in streams]  # all have started before any has ended
    assert all(stream.report.finish is None for stream in streams)
    assert [entry.place for entry in model.queue()] == [0, 1, 2]
    assert sorted(entry.label for entry in model.queue()) == ["", "", ""]
    rest = [ids_of(stream) for stream in streams]
    assert [len(ids) for ids in rest] == [2 * TURN - 1] * 3
    assert first[0] == ids_of(model.generate(request(model, 0, 1)))[0]


def test_without_room_for_copies_nobody_gives_up_a_place(load: Load) -> None:
    model = load(parallel=1, cache_capacity="0")
    long, short = model.generate(request(model, 0, 2 * TURN)), model.generate(request(model, 1, 2))
    assert len(ids_of(short)) == 2
    assert long.report.new_tokens == 2 * TURN
    assert long.report.finish is Finish.LENGTH


def test_a_waiting_reply_can_be_cancelled_between_its_turns(load: Load) -> None:
    model = load(parallel=1)
    a, b = (request(model, i, 1000) for i in range(2))
    streams = [model.generate(a), model.generate(b)]
    next(streams[1])  # so the first one waits now
    a.cancel.set()
    assert streams[0].report.new_tokens <= 1000
    ids_of(streams[0])
    assert streams[0].report.finish is Finish.CANCELLED
    b.cancel.set()
    ids_of(streams[1])
    assert list(model.queue()) == []


@pytest.mark.parametrize("separate", [False, True])
def test_a_full_context_shifts_with_guidance_too(load: Load, separate: bool) -> None:
    model = load(n_ctx=192, parallel=1, context_shift=True, keep=8, separate_contexts=separate)
    stream = model.generate(request(model, 0, 300, guidance_scale=1.5))
    assert len(ids_of(stream)) == 300
    assert stream.report.finish is Finish.LENGTH
