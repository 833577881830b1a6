"""Drafts change how many steps a reply takes, and not one of its tokens."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from errors import InvalidInput
from loaders import loader_named
from loaders.base import Model, Request
from loaders.drafting.drafted import DraftedTokens
from loaders.drafting.model_policy import ModelPolicy, StepPlan
from loaders.drafting.policy import DraftPolicy
from loaders.llamacpp.engine.batch_request import BatchRequest
from loaders.llamacpp.engine.draft_model import DraftModel
from loaders.llamacpp.engine.model_drafter import ModelDrafter
from loaders.llamacpp.engine.sequence_slot import SequenceSlot
from loaders.llamacpp.engine.speculation import Speculation
from loaders.params import SamplingParams
from loaders.sampling import SamplerChain
from tests.conftest import keep_going
from tests.zoo import ggufs

PROMPT = (
    "<|im_start|>user\nRepeat: one two three four five six seven.<|im_end|>\n<|im_start|>assistant\n"
    "one two three four five six seven. one two three four"
)


#: The flash kernel computes each row by itself on the CPU, and in contexts of their own the cells of a sequence have
#: the same order.
OPTIONS = {
    "n_ctx": 512,
    "threads": 1,
    "threads_batch": 1,
    "parallel": 2,
    "flash_attn": "on",
    "separate_contexts": True,
}


@pytest.fixture(scope="module")
def plain(demo_model_path: Path) -> Iterator[Model]:
    loader = loader_named("llama.cpp")
    with loader.load(demo_model_path, loader.Options.parse(OPTIONS), keep_going) as model:
        yield model


@pytest.fixture(scope="module", params=["ngram", "model", "both"])
def models(plain: Model, demo_model_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Model, Model]]:
    """Without drafts, and with them: from repetitions, from a model, which is itself, or from both."""
    loader, more = loader_named("llama.cpp"), {"spec_type": "ngram"}
    if request.param != "ngram":
        more = {"model_draft": demo_model_path.stem, "draft_max": "4"}
    with loader.load(demo_model_path, loader.Options.parse({**OPTIONS, **more}), keep_going) as drafting:
        yield plain, drafting


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Everything that can be drafted is, whether it pays here or not; and a model's third guess is wrong."""

    def guess(self: SamplerChain, logits: Any, ahead: int = 0) -> int:
        return int(logits.argmin()) if ahead == 2 else right(self, logits, ahead)

    right = SamplerChain.guess
    monkeypatch.setattr(SamplerChain, "guess", guess)
    monkeypatch.setattr(DraftPolicy, "length", lambda self, kind, lengths, *_: max(lengths))
    monkeypatch.setattr(ModelPolicy, "pays", lambda *_: True)
    monkeypatch.setattr(ModelPolicy, "worth_reading", lambda *_: True)
    if "both" in request.node.name:
        monkeypatch.setattr(DraftPolicy, "length", in_turn())
    elif "model" in request.node.name:
        monkeypatch.setattr(DraftPolicy, "length", lambda *_: 0)


def in_turn() -> Callable[..., int]:
    """Repetitions are drafted in every second step, the model's guesses in the others."""
    turns = itertools.cycle([True, False])
    return lambda self, kind, lengths, *_: max(lengths) if next(turns) else 0


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "greedy": ({"do_sample": False}, {}),
    "samplers": ({"min_p": 0.02, "xtc_probability": 0.3, "dry_multiplier": 0.5}, {}),
    "everything": ({"repetition_penalty": 1.1, "top_k": 50, "typical_p": 0.95, "mirostat_mode": 2}, {}),
    "adaptive": ({"adaptive_target": 0.4, "dynamic_temperature": True, "dynatemp_low": 0.5}, {}),
    "grammar": ({"grammar_string": 'root ::= [a-z ]+ "." " " [a-z ]+ "."'}, {}),
    "guidance": ({"guidance_scale": 1.4}, {"negative": "No numbers."}),
    "banned": ({"banned_strings": "five six\nsix seven"}, {}),
}


def said(model: Model, seed: int, params: dict[str, Any], negative: str = "", count: int = 40) -> tuple[list[int], Any]:
    known = SamplingParams.parse({"temperature": 0.8, "seed": seed, "ban_eos_token": True, **params})
    encode = model.tokenizer.encode
    request = Request(encode(PROMPT), known, count, negative_ids=encode(negative) if negative else ())
    stream = model.generate(request)
    return [token.id for token in stream], stream.report


@pytest.mark.parametrize("name", CASES)
def test_the_text_is_what_it_is_without(models: tuple[Model, Model], name: str) -> None:
    plain, drafting = models
    params, more = CASES[name]
    drafted = accepted = 0
    for seed in range(2):
        text, report = said(drafting, seed, params, **more)
        assert text == said(plain, seed, params, **more)[0]
        assert report.new_tokens == len(text)
        drafted, accepted = drafted + report.drafted_tokens, accepted + report.accepted_tokens
    assert drafted > accepted
    assert accepted > 0 or name in ("everything", "adaptive"), "these leave what was repeated"


def test_what_was_guessed_wrongly_is_not_reused(models: tuple[Model, Model]) -> None:
    plain, drafting = models
    encode = drafting.tokenizer.encode
    tokens, report = said(drafting, 1, {"temperature": 1.5})
    assert report.drafted_tokens > report.accepted_tokens
    following = Request([*encode(PROMPT), *tokens, *encode(" And then")], SamplingParams(do_sample=False), 12)
    after = drafting.generate(following)
    text = [token.id for token in after]
    assert after.report.reused_tokens >= len(encode(PROMPT)) + len(tokens) - 1
    assert text == [token.id for token in plain.generate(following)]


def test_a_request_can_ask_for_drafts_itself(plain: Model) -> None:
    text, report = said(plain, 0, {"do_sample": False, "prompt_lookup_num_tokens": 3})
    assert report.accepted_tokens > 0
    assert text == said(plain, 0, {"do_sample": False})[0]


def test_the_length_limit_and_the_context_hold(models: tuple[Model, Model]) -> None:
    _, drafting = models
    for count in (1, 2, 3, 7):
        assert len(said(drafting, 0, {"do_sample": False}, count=count)[0]) == count
    ids = drafting.tokenizer.encode("one two three four five " * 250)[: drafting.context_length - 9]
    stream = drafting.generate(Request(ids, SamplingParams(do_sample=False, ban_eos_token=True), 400))
    assert len(list(stream)) == 9


def test_replies_beside_each_other(models: tuple[Model, Model]) -> None:
    plain, drafting = models
    encode, params = drafting.tokenizer.encode, SamplingParams(do_sample=False, ban_eos_token=True)
    requests = [Request(encode(f"{n} {PROMPT}"), params, 30) for n in ("a", "b", "c")]
    streams = [drafting.generate(request) for request in requests]
    for request, stream in zip(requests, streams, strict=True):
        assert [token.id for token in stream] == [token.id for token in plain.generate(request)]


@pytest.mark.parametrize("models", ["model"], indirect=True)
@pytest.mark.parametrize("params", [{"do_sample": False}, {"temperature": 1.5}, {"xtc_probability": 0.5, "top_k": 40}])
def test_the_samplers_own_random_numbers_guess_right(
    models: tuple[Model, Model], params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A draft model that is the model itself guesses all, at any temperature."""
    _, drafting = models
    monkeypatch.undo()
    monkeypatch.setattr(DraftPolicy, "length", lambda *_: 0)
    monkeypatch.setattr(ModelPolicy, "pays", lambda *_: True)
    monkeypatch.setattr(ModelPolicy, "worth_reading", lambda *_: True)
    _, report = said(drafting, 3, params, count=30)
    assert report.accepted_tokens == report.drafted_tokens > 20


def load(path: Path, **more: Any) -> Model:
    loader = loader_named("llama.cpp")
    return loader.load(path, loader.Options.parse({**OPTIONS, **more}), keep_going)


def test_a_context_that_is_smaller_than_the_text_drafts_nothing(
    plain: Model, demo_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DraftPolicy, "length", lambda *_: 0)
    with load(demo_model_path, draft_model=str(demo_model_path), ctx_size_draft=256) as drafting:
        ids = drafting.tokenizer.encode("one two three four five " * 60)[:235]
        request = Request(ids, SamplingParams(do_sample=False, ban_eos_token=True), 40)
        stream = drafting.generate(request)
        assert [token.id for token in stream] == [token.id for token in plain.generate(request)]
        assert 0 < stream.report.accepted_tokens < 22


def test_repetitions_do_not_give_way_to_a_model_that_cannot_draft(
    demo_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its context is too small for the text by now."""
    asked: list[float] = []

    def length(_: DraftPolicy, kind: int, lengths: list[int], rows: int, each: int, worth: float) -> int:
        asked.append(worth)
        return 0

    monkeypatch.setattr(DraftPolicy, "length", length)
    monkeypatch.setattr(ModelPolicy, "gain", 3.0)
    with load(demo_model_path, draft_model=str(demo_model_path), ctx_size_draft=256) as drafting:
        ids = drafting.tokenizer.encode("one two three four five " * 60)[:235]
        assert list(drafting.generate(Request(ids, SamplingParams(do_sample=False, ban_eos_token=True), 40)))
    assert asked[0] == asked[-1] == 1.0
    assert 3.0 in asked


@pytest.mark.parametrize("models", ["both"], indirect=True)
def test_what_repetitions_gain_is_not_the_models(models: tuple[Model, Model], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two replies in a step, one may repeat something and the other one have a model's draft."""
    _, drafting = models
    step: list[bool] = []  # whether each of its drafts was of the model
    steps: list[list[bool]] = []
    noted: list[list[bool]] = []

    def judge(self: Speculation, run: BatchRequest, draft: DraftedTokens, accepted: int) -> None:
        step.append(bool(draft.kinds))
        right_judge(self, run, draft, accepted)

    def note(self: Speculation, rows: int, seconds: float) -> None:
        steps.append(step.copy())
        right_note(self, rows, seconds)
        step.clear()

    right_judge, right_note = Speculation.judge, Speculation.note
    monkeypatch.setattr(Speculation, "judge", judge)
    monkeypatch.setattr(Speculation, "note", note)
    monkeypatch.setattr(ModelPolicy, "note_gain", lambda *_: noted.append(step.copy()))
    test_replies_beside_each_other((drafting, drafting))
    assert [True] in noted
    assert any(len(set(each)) == 2 for each in steps), "none had both"
    assert all(map(all, noted))


def test_a_model_that_has_failed_is_not_asked_again() -> None:
    """The log says that no more drafts are made."""

    class Failing:
        n_ctx, steps = 512, 0

        def decode(self, _: object) -> int:
            self.steps += 1
            return -1

        def forget(self, *_: int) -> bool:
            return True

    class Batch:
        capacity = 64

        def clear(self) -> None: ...

        def add(self, *_: object, **__: object) -> int:
            return 0

    context = Failing()
    model = DraftModel.__new__(DraftModel)
    model.context, model._batch, model._failed = context, Batch(), False  # type: ignore[assignment]
    model._slots, model._n_vocab = [SequenceSlot(0)], 8
    policy = ModelPolicy(DraftPolicy([2.0]))
    policy._policy.times.note(1, 0.01)
    slot = model.take([1, 2])
    assert slot
    drafter = ModelDrafter(model, slot, policy, lambda *_: 0, ())
    for _ in range(3):
        assert drafter.read([1, 2], StepPlan(1, 1, 1.0), 0, 50)
        assert drafter.propose([1, 2], 4, StepPlan(1, 1, 1.0), 1) is None
        assert not drafter.ready, "so repetitions do not give way to it"
    assert context.steps == 1


def test_another_vocabulary_is_refused(demo_model_path: Path, tmp_path: Path) -> None:
    other = ggufs.make("llama", tmp_path)
    with pytest.raises(InvalidInput, match=r"cannot draft for .*: it has .* token ids"):
        load(demo_model_path, draft_model=str(other))


def test_a_model_that_cannot_go_back_is_refused(tmp_path: Path) -> None:
    path = ggufs.make("llama", tmp_path)
    ggufs.make("mamba2", tmp_path)
    with pytest.raises(InvalidInput, match="its state cannot go back"):
        load(path, draft_model="zoo-mamba2")


def test_for_a_model_that_cannot_go_back_the_notes_say_that_nothing_is_drafted(tmp_path: Path) -> None:
    path = ggufs.make("mamba2", tmp_path)
    ggufs.make("llama", tmp_path)
    with load(path, draft_model="zoo-llama", spec_type="ngram") as model:
        notes = [note for note in model.notes if "draft" in note or "spec_type" in note]
    why = "has no effect: this model's cache cannot be truncated"
    assert notes == [f"spec_type {why}", f"draft_model {why}"]


@pytest.mark.parametrize(
    ("options", "why"),
    [({"draft_model": "nowhere"}, "Draft model not found: 'nowhere'"), ({"ctx_size_draft": 512}, "only applies with")],
)
def test_what_does_not_fit_together_is_a_sentence(demo_model_path: Path, options: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        load(demo_model_path, **options)


def test_its_memory_is_in_the_forecast(demo_model_path: Path) -> None:
    loader = loader_named("llama.cpp")
    one, two = (
        loader.Options.parse(options) for options in (OPTIONS, {**OPTIONS, "draft_model": str(demo_model_path)})
    )
    for forecast in (loader.forecast, lambda path, options: loader.quick_forecast(path, options, ())):
        alone, both = forecast(demo_model_path, one), forecast(demo_model_path, two)
        assert alone
        assert both
        assert both.total > 1.6 * alone.total
        assert "of it for the draft model SmolLM2" in both.sentence
