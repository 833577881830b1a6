"""The contract of a model, under every HF loader: replies, reuse, guidance, scores, cancelling, bad input."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from errors import EmptyPrompt, InvalidGrammar, InvalidInput, InvalidToken, PromptTooLong, Unsupported
from loaders.base import Finish, Model, Request
from loaders.logits import guided, log_softmax
from loaders.params import SamplingParams

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
    fresh, _ = reply(model, "Once upon a time", 20)
    reply(model, "Once upon a midnight dreary", 20)
    assert reply(model, "Once upon a time", 20)[0] == fresh


def test_the_same_seed_gives_the_same_text(model: Model) -> None:
    settings = {"do_sample": True, "temperature": 1.2, "seed": 7}
    a, report = reply(model, "The sea was", 16, **settings)
    b, _ = reply(model, "The sea was", 16, **settings)
    assert a == b
    assert report.seed == 7
    assert len({reply(model, "The sea was", 16, do_sample=True, seed=seed)[0] for seed in range(4)}) > 1


def test_guidance_is_the_mix_of_both_branches(model: Model) -> None:
    params = SamplingParams(guidance_scale=1.7)
    a, b = ids_of(model, QUESTION), ids_of(model, NEGATIVE)
    mixed = model.next_logits(Request(a, params, negative_ids=b))
    plain = [model.next_logits(Request(each)) for each in (a, b)]
    np.testing.assert_allclose(mixed, guided(plain[0], plain[1], 1.7), atol=2e-3)
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
    assert reply(model, text, 24, prompt_lookup_num_tokens=5)[0] == reply(model, text, 24)[0]
    drawn = {"do_sample": True, "seed": 3, "temperature": 1.5}
    guessed = reply(model, text, 24, prompt_lookup_num_tokens=5, **drawn)[0]
    assert guessed == reply(model, text, 24, **drawn)[0]


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


def test_a_cancelled_reply_ends_and_the_next_one_goes_on(model: Model) -> None:
    cancel = threading.Event()
    stream = model.generate(
        Request(ids_of(model, "A long story:"), SamplingParams(ban_eos_token=True), 500, cancel=cancel)
    )
    next(stream)
    cancel.set()
    assert len(list(stream)) <= 2
    assert stream.report.finish is Finish.CANCELLED
    assert reply(model, QUESTION)[0] == "The capital of France is Paris."


def test_requests_are_answered_in_order(model: Model) -> None:
    first = model.generate(Request(ids_of(model, "One"), SamplingParams(ban_eos_token=True), 60, label="first"))
    second = model.generate(Request(ids_of(model, "Two"), SamplingParams(), 3, label="second"))
    next(first)
    assert [(entry.label, entry.place) for entry in model.queue()] == [("first", 0), ("second", 1)]
    assert len(list(first)) == 59
    assert len(list(second)) == 3
    assert not model.queue()


def test_bad_requests_are_refused_by_sentence(model: Model) -> None:
    with pytest.raises(EmptyPrompt):
        model.generate(Request(()))
    with pytest.raises(InvalidToken):
        model.generate(Request((10**6,)))
    with pytest.raises(PromptTooLong, match=r"2,?047"):
        model.generate(Request([1] * 3000))
    with pytest.raises(InvalidInput, match="beams"):
        reply(model, "x", num_beams=99)
    with pytest.raises(Unsupported, match="Guidance"):
        reply(model, "x", num_beams=2, guidance_scale=2)


def test_a_reply_that_fills_the_context_ends_there(model: Model) -> None:
    text, report = reply(model, "word " * 2040, 50, ban_eos_token=True)
    assert report.finish is Finish.LENGTH
    assert report.prompt_tokens + report.new_tokens <= model.context_length
    assert text
