"""Drafts change how many steps a reply takes, and not one of its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loaders import loader_named
from loaders.base import Model, Request
from loaders.drafting.policy import DraftPolicy
from loaders.params import SamplingParams
from tests.conftest import keep_going

PROMPT = (
    "<|im_start|>user\nRepeat: one two three four five six seven.<|im_end|>\n<|im_start|>assistant\n"
    "one two three four five six seven. one two three four"
)


@pytest.fixture(scope="module")
def models(demo_model_path: Path) -> Iterator[tuple[Model, Model]]:
    """Without drafts, and with them. The flash kernel computes each row by itself on the CPU, and in contexts of their
    own the cells of a sequence have the same order.
    """
    loader = loader_named("llama.cpp")
    options = {"n_ctx": 1024, "threads": 1, "threads_batch": 1, "parallel": 2, "flash_attn": "on"}
    options["separate_contexts"] = True
    with (
        loader.load(demo_model_path, loader.Options.parse(options), keep_going) as plain,
        loader.load(demo_model_path, loader.Options.parse({**options, "spec_type": "ngram"}), keep_going) as drafting,
    ):
        yield plain, drafting


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that can be drafted is, whether it pays here or not."""
    monkeypatch.setattr(DraftPolicy, "length", lambda self, kind, lengths, rows, each=1: max(lengths))


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
    for seed in range(4):
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


def test_a_request_can_ask_for_drafts_itself(models: tuple[Model, Model]) -> None:
    plain, _ = models
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
