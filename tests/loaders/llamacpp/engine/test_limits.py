"""Limits of contexts and of the engine's thread: cases that crashed llama.cpp or left readers waiting."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from errors import InvalidInput, ModelFileError
from loaders.base import Finish, Request
from loaders.list_parsing import parse_quoted_strings
from loaders.llamacpp.context_params import _GGML_TYPES
from loaders.llamacpp.loader import LlamaCpp
from loaders.llamacpp.options import CacheTypeName, GGUFOptions
from loaders.llamacpp.placement.memory import CACHE_BYTES
from loaders.params import SamplingParams
from tests.loaders.llamacpp.gguf_writer import write_gguf
from tests.loaders.llamacpp.test_sharing import Load, ids_of, load, request

__all__ = ["load"]  # the fixture


@pytest.mark.parametrize(("asked", "made"), [(1, 256), (300, 512), (512, 512)])
def test_a_context_is_made_of_whole_steps(load: Load, asked: int, made: int) -> None:
    model = load(n_ctx=asked)
    assert model.context_length == made
    assert any(f"context: {made} tokens" in note for note in model.notes)
    ids = np.random.default_rng(0).integers(10, 1000, made - 10).tolist()
    assert model.score(ids, start=len(ids) - 10).shape == (9,)
    assert len(ids_of(model.generate(Request(ids, SamplingParams(ban_eos_token=True), 4)))) == 4


def test_contexts_of_their_own_are_as_long_as_asked(load: Load) -> None:
    for parallel in (1, 2):
        assert load(n_ctx=512, parallel=parallel, separate_contexts=True).context_length == 512


@pytest.mark.parametrize("layers", [0, 600])
def test_a_number_of_layers_that_cannot_be_is_a_sentence(tmp_path: Path, layers: int) -> None:
    file = tmp_path / "lies.gguf"
    metadata = {"general.architecture": "llama", "llama.block_count": layers, "llama.context_length": 512}
    write_gguf(file, metadata, {"blk.0.attn_q.weight": np.zeros((32, 32), np.float32)})
    for do in (LlamaCpp.forecast, lambda path, options: LlamaCpp.load(path, options, lambda *_: True)):
        with pytest.raises(ModelFileError, match="header contradicts itself: block_count"):
            do(file, LlamaCpp.Options())


def test_a_finished_grammar_ends_whatever_is_banned(load: Load) -> None:
    model = load()
    for more in ({"ban_eos_token": True}, {"min_length": 10}):
        stream = model.generate(
            request(model, 0, 20, grammar_string='root ::= "yes"', **{"ban_eos_token": False, **more})
        )
        assert b"".join(token.data for token in stream) == b"yes"
        assert stream.report.finish is Finish.STOP


@pytest.mark.parametrize("name", ["presence_penalty", "guidance_scale", "frequency_penalty", "temperature"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_knobs_are_numbers(name: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=name):
        SamplingParams.parse({name: value})


@pytest.mark.parametrize("text", ["[" * 200_000, "{[]: 1}", "['a', 1]"])
def test_strings_that_cannot_be_read_are_a_sentence(text: str) -> None:
    with pytest.raises(InvalidInput, match="Invalid list of strings"):
        parse_quoted_strings(text)


def test_far_numbers_are_as_good_as_infinite(load: Load) -> None:
    model = load()
    ids = model.tokenizer.encode("The capital of France is")
    stream = model.generate(Request(ids, SamplingParams(repetition_penalty_range=2**70, do_sample=False), 3))
    likely = ids_of(stream)[0]
    again = model.generate(Request(ids, SamplingParams(do_sample=False), 1, logit_bias={likely: -1e300}))
    assert ids_of(again)[0] != likely


def test_every_cache_type_is_known_everywhere() -> None:
    types = set(get_args(CacheTypeName))
    assert types == set(CACHE_BYTES) == set(_GGML_TYPES)
    for part in ("cache_type", "cache_type_k", "cache_type_v"):
        choices = set(GGUFOptions.knobs()[part].choices)
        assert choices == (types if part == "cache_type" else {"same", *types})
