"""Logits snapshots: the distribution, the sampler steps, the tokens; the model is run once."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from errors import Cancelled, EmptyPrompt, InvalidInput, NotFound, PromptTooLong
from loaders.base import Model
from loaders.params import SamplingParams
from modules.generation.generator import Generator
from modules.generation.sampler_trace import format_percent, trace_samplers
from modules.generation.snapshot_cache import SnapshotCache
from modules.generation.token_view import mark_invisible, split_bytes, view_tokens


class Source:
    def __init__(self, model: Model) -> None:
        self.loaded: Model | None = model

    def current(self) -> Model:
        assert self.loaded is not None
        return self.loaded


@pytest.fixture(scope="module")
def places(demo_model: Model) -> SnapshotCache:
    return SnapshotCache(Generator(Source(demo_model)))


TEXT = "The capital of France is"
PARAMS = SamplingParams(temperature=0.7, top_k=20, top_p=0.9, min_p=0.05)


def test_the_models_own_distribution_is_the_models(
    places: SnapshotCache, demo_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the very same logits: computed again, llama.cpp sums in another order if cells are elsewhere
    given: list[np.ndarray] = []
    ask = demo_model.next_logits
    monkeypatch.setattr(demo_model, "next_logits", lambda request: given.append(ask(request)) or given[-1])
    place = places.compute(f" {TEXT}", PARAMS, who="test")  # not inspected before: nothing of it is cached
    odds = place.distribution(PARAMS, sampled=False, count=10)
    (logits,) = given
    exps = np.exp(logits - logits.max())
    expected = exps / exps.sum()
    assert [each.token.id for each in odds.candidates] == np.argsort(-expected, kind="stable")[:10].tolist()
    for each in odds.candidates:
        share = float(expected[each.token.id])
        assert each.probability == pytest.approx(share, rel=1e-4)
        assert each.logprob == pytest.approx(np.log(share), abs=1e-4)
    assert odds.candidates[0].token.text == "·Paris"


def test_the_steps_end_where_a_reply_is_drawn(places: SnapshotCache) -> None:
    place = places.compute(TEXT, PARAMS, who="test")
    seen = trace_samplers(place, PARAMS)
    assert [step.name for step in seen.steps] == ["model", "temperature", "top_k", "top_p", "min_p"]
    assert seen.steps[2].kept == 20
    assert seen.steps[2].removed == seen.n_vocab - 20
    drawn = place.distribution(PARAMS, sampled=True)
    last = seen.steps[-1]
    assert last.kept == drawn.left
    assert last.best[0][1] == pytest.approx(drawn.candidates[0].probability, abs=1e-5)
    for stream in seen.streams:
        assert len(stream.shares) == len(seen.steps)
    for at in range(len(seen.steps)):
        assert sum(stream.shares[at] for stream in seen.streams) <= 1.0001
    assert "top_k 20 removed" in seen.sentence


def test_the_order_is_the_users(places: SnapshotCache) -> None:
    params = PARAMS.changed(sampler_priority=("min_p", "top_p", "top_k", "temperature"))
    place = places.compute(TEXT, params, who="test")
    assert [step.name for step in trace_samplers(place, params).steps][:5] == [
        "model",
        "min_p",
        "top_p",
        "top_k",
        "temperature",
    ]


def test_neutral_knobs_have_no_steps(places: SnapshotCache) -> None:
    place = places.compute(TEXT, SamplingParams(), who="test")
    assert "No sampler is active" in trace_samplers(place, SamplingParams()).sentence


def test_the_model_is_asked_once(places: SnapshotCache, demo_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    place = places.compute(TEXT, PARAMS, who="test")
    monkeypatch.setattr(type(demo_model), "next_logits", lambda *_: pytest.fail("the model was run"))
    for top_k in range(1, 40):
        assert trace_samplers(places.get(place.id), PARAMS.changed(top_k=top_k)).steps[2].kept == top_k


def test_a_knob_that_the_model_computes_with_asks_for_another_look(places: SnapshotCache) -> None:
    place = places.compute(TEXT, PARAMS, who="test")
    seen = trace_samplers(place, PARAMS.changed(guidance_scale=1.5, negative_prompt="Rome"))
    assert any("Press Inspect" in note for note in seen.notes)
    assert not trace_samplers(place, PARAMS).notes


def test_a_grammar_is_a_step(places: SnapshotCache) -> None:
    params = PARAMS.changed(grammar_string='root ::= "x" | "y"')
    seen = trace_samplers(places.compute(TEXT, params, who="test"), params)
    assert [step.name for step in seen.steps][:2] == ["model", "grammar"]
    assert seen.steps[1].kept < 20


def test_bad_places(places: SnapshotCache, demo_model: Model) -> None:
    with pytest.raises(EmptyPrompt):
        places.compute("", SamplingParams(add_bos_token=False), who="test")
    with pytest.raises(PromptTooLong):
        places.compute("word " * (demo_model.context_length + 5), SamplingParams(), who="test")
    with pytest.raises(InvalidInput, match="lone surrogate"):
        places.compute("lone \ud800", SamplingParams(), who="test")
    with pytest.raises(NotFound):
        places.get(10**9)


def test_a_new_look_ends_the_one_before(places: SnapshotCache) -> None:
    ends: list[BaseException | None] = []

    def slow() -> None:
        try:
            places.compute("word " * 1500, SamplingParams(), who="same")
            ends.append(None)
        except Exception as error:
            ends.append(error)

    thread = threading.Thread(target=slow)
    thread.start()
    while "same" not in places._looking:
        pass
    places.compute("short", SamplingParams(), who="same")
    thread.join(timeout=60)
    assert isinstance(ends[0], Cancelled)


@pytest.mark.parametrize(
    "text",
    ["plain", " lead and trail ", "Grüße 世界 😀", "tab\tand\r\nend", "zero\u200bwidth", "<|im_start|>user\n", ""],
)
def test_tokens_make_up_the_text(demo_model: Model, text: str) -> None:
    ids = demo_model.tokenizer.encode(text)
    view = view_tokens(demo_model.tokenizer, ids)
    assert view.ids == ids
    assert b"".join(token.data for token in view.tokens).decode() == text
    special = [token for token in view.tokens if token.special]
    assert len(special) == text.count("<|im_start|>")
    assert view.characters == len(text) - 12 * len(special)


def test_parts_show_what_cannot_be_seen() -> None:
    assert [(part.text, part.kind) for part in split_bytes(b" a\xe2\x80")] == [
        ("·", "space"),
        ("a", "text"),
        ("E2 80", "bytes"),
    ]
    assert mark_invisible("a\u200b\n") == "aU+200B⏎"
    assert [format_percent(share) for share in (0.83, 0.031, 0.0004, 1e-9, 0)] == [
        "83 %",
        "3.1 %",
        "0.04 %",
        "under 0.01 %",
        "0 %",
    ]
