"""The contract of a model, under every HF loader: replies, reuse, guidance, scores, cancelling, bad input."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from errors import EmptyPrompt, InvalidGrammar, InvalidInput, InvalidToken, ModelClosed, PromptTooLong, Unsupported
from loaders import loader_named
from loaders.base import Finish, Model, Request
from loaders.job import Job
from loaders.logits import apply_cfg, log_softmax
from loaders.params import SamplingParams
from tests.conftest import keep_going
from tests.loaders.conftest import opened

QUESTION = "<|im_start|>user\nTell me the capital of France.<|im_end|>\n<|im_start|>assistant\n"
NEGATIVE = "<|im_start|>user\nTell me of London.<|im_end|>\n<|im_start|>assistant\n"


def ids_of(model: Model, text: str) -> list[int]:
    return model.tokenizer.encode(text)


def reply(model: Model, text: str, count: int = 24, negative: str = "", **params: Any) -> tuple[str, Any]:
    settings = SamplingParams(**{"do_sample": False, **params})
    request = Request(ids_of(model, text), settings, count, negative_ids=ids_of(model, negative) if negative else ())
    stream = model.generate(request)
    return b"".join(token.data for token in stream).decode(), stream.report


def test_it_answers_and_reuses_what_it_has_read(model: Model) -> None:
    text, _ = reply(model, QUESTION)
    assert text == "The capital of France is Paris."
    again, report = reply(model, QUESTION)
    assert again == text
    assert report.reused_tokens == report.prompt_tokens - 1
    longer, report = reply(model, QUESTION + text + "<|im_end|>\n<|im_start|>user\nAnd of Italy?<|im_end|>\n")
    assert report.reused_tokens >= len(ids_of(model, QUESTION)) - 1
    assert report.finish in (Finish.STOP, Finish.LENGTH)
    assert longer


def test_reuse_changes_nothing(model: Model) -> None:
    fresh, _ = reply(model, "Once upon a time", 10)
    reply(model, "Once upon a midnight dreary", 10)
    assert reply(model, "Once upon a time", 10)[0] == fresh


def test_the_same_seed_gives_the_same_text(model: Model) -> None:
    settings = {"do_sample": True, "temperature": 1.2, "seed": 7}
    a, report = reply(model, "The sea was", 8, **settings)
    b, _ = reply(model, "The sea was", 8, **settings)
    assert a == b
    assert report.seed == 7
    assert len({reply(model, "The sea was", 8, do_sample=True, seed=seed)[0] for seed in range(4)}) > 1


def test_guidance_is_the_mix_of_both_branches(model: Model) -> None:
    params = SamplingParams(guidance_scale=1.7)
    a, b = ids_of(model, QUESTION), ids_of(model, NEGATIVE)
    mixed = model.next_logits(Request(a, params, negative_ids=b))
    plain = [model.next_logits(Request(each)) for each in (a, b)]
    np.testing.assert_allclose(mixed, apply_cfg(plain[0], plain[1], 1.7), atol=2e-3)
    first, report = reply(model, QUESTION, negative=NEGATIVE, guidance_scale=1.5)
    again, report = reply(model, QUESTION, negative=NEGATIVE, guidance_scale=1.5)
    assert again == first
    assert report.reused_tokens == report.prompt_tokens - 1


def test_scores_are_those_of_the_logits(model: Model) -> None:
    ids = ids_of(model, "The quick brown fox jumps over the lazy dog.")
    found = model.score(ids)
    wanted = [log_softmax(model.next_logits(Request(ids[:end])))[ids[end]] for end in range(1, len(ids))]
    np.testing.assert_allclose(found, wanted, atol=2e-2)  # rows that are computed together round differently


def test_prompt_lookup_changes_speed_alone(model: Model) -> None:
    text = "red green blue yellow red green blue yellow red green"
    assert reply(model, text, 12, prompt_lookup_num_tokens=5)[0] == reply(model, text, 12)[0]
    drawn = {"do_sample": True, "seed": 3, "temperature": 1.5}
    guessed = reply(model, text, 12, prompt_lookup_num_tokens=5, **drawn)[0]
    assert guessed == reply(model, text, 12, **drawn)[0]


def test_alternatives(model: Model) -> None:
    token = next(
        iter(model.generate(Request(ids_of(model, QUESTION), SamplingParams(do_sample=False), 4, alternatives=3)))
    )
    assert token.alternatives[0].id == token.id
    assert token.logprob == token.alternatives[0].logprob
    assert token.logprob < 0


def test_a_grammar_is_kept_to(model: Model) -> None:
    grammar = 'root ::= "yes" | "no" | "perhaps"'
    for seed in range(8):
        text, report = reply(model, "Is it so? ", do_sample=True, seed=seed, temperature=3, grammar_string=grammar)
        assert text in ("yes", "no", "perhaps")
        assert report.finish is Finish.STOP
    with pytest.raises(InvalidGrammar):
        reply(model, "x", grammar_string="root ::= (")


def test_bad_requests_are_refused_by_sentence(model: Model) -> None:
    with pytest.raises(EmptyPrompt):
        model.generate(Request(()))
    with pytest.raises(InvalidToken):
        model.generate(Request((10**6,)))
    with pytest.raises(PromptTooLong, match=r"2,?047"):
        model.generate(Request([1] * 3000))
    with pytest.raises(InvalidInput, match="num_beams is 99"):
        reply(model, "x", num_beams=99)
    with pytest.raises(Unsupported, match="Guidance"):
        reply(model, "x", num_beams=2, guidance_scale=2)


@pytest.mark.parametrize("name", ["Transformers", "llamacpp_HF"])
def test_a_reply_that_fills_the_context_ends_there(name: str, tiny_folder: Path, demo_model_path: Path) -> None:
    sizes = {"Transformers": {"max_seq_len": 256, "cpu": True}, "llamacpp_HF": {"n_ctx": 256, "threads": 1}}
    path = tiny_folder if name == "Transformers" else demo_model_path
    with opened(name, path, **sizes[name]) as model:
        text, report = reply(model, "word " * 248, 50, ban_eos_token=True)
        assert report.finish is Finish.LENGTH
        assert 0 < report.new_tokens < 50
        assert report.prompt_tokens + report.new_tokens <= model.context_length == 256
        assert text


def test_a_search_ends_when_nobody_wants_it(model: Model, transformers_model: Model) -> None:
    """Beam search, and on Transformers contrastive search: both check for cancelling after each token."""
    knobs: list[dict[str, Any]] = [{"num_beams": 2}]
    if model is transformers_model:
        knobs.append({"penalty_alpha": 0.6, "top_k": 3, "do_sample": False})
    for more in knobs:
        params = SamplingParams(ban_eos_token=True, **more)
        request = Request(ids_of(model, "A long story:"), params, 1000)
        stream = model.generate(request)
        assert isinstance(stream, Job)
        while not stream.started:
            time.sleep(0.002)
        request.cancel.set()
        assert len(list(stream)) < 1000
        assert stream.report.finish is Finish.CANCELLED


def test_beams_without_chance_and_what_they_say(model: Model) -> None:
    cold = [reply(model, "Once upon a time", 8, do_sample=True, temperature=0, num_beams=2, seed=n)[0] for n in (1, 2)]
    assert cold[0] == cold[1] == reply(model, "Once upon a time", 8, num_beams=2)[0]
    _, report = reply(
        model, "Once", 4, num_beams=2, seed=2**70, custom_token_bans="9999999", sampler_priority=["nothing"]
    )
    said = " ".join(report.warnings)
    assert "Token id 9999999 does not exist" in said
    assert "unknown samplers were ignored: nothing" in said


@pytest.fixture
def small(demo_model_path: Path) -> Iterator[Model]:
    with opened("llamacpp_HF", demo_model_path, n_ctx=256, threads=1, threads_batch=1) as model:
        yield model


def test_guidance_that_fills_the_context_ends_with_length(small: Model) -> None:
    model = small
    half = model.context_length // 2 - 10
    ids = np.random.default_rng(1).integers(1000, 40000, (2, half)).tolist()
    params = SamplingParams(guidance_scale=1.5, ban_eos_token=True)
    stream = model.generate(Request(ids[0], params, 100, negative_ids=ids[1]))
    assert len(list(stream)) == 10
    assert stream.report.finish is Finish.LENGTH
    assert len(model.score(ids[0] + ids[1])) == 2 * half - 1  # the guidance branch is emptied
    with pytest.raises(PromptTooLong):
        model.generate(Request(ids[0] + ids[1], params, 1, negative_ids=ids[1]))


def test_a_grammar_of_a_closed_model_is_a_sentence(demo_model_path: Path) -> None:
    loader = loader_named("llamacpp_HF")
    model = loader.load(demo_model_path, loader.Options.parse({"n_ctx": 256, "threads": 1}), keep_going)
    assert model.grammar_start('root ::= "a"').any()
    model.close()
    with pytest.raises(ModelClosed):
        model.grammar_start('root ::= "a"')
