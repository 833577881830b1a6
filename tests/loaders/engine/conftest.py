"""Runs a test with each engine, with control over its steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loaders import loader_named
from tests.conftest import keep_going
from tests.loaders.engine.engines import CountingEngine, EngineModel, EngineUnderTest, decoder_model, small_tokenizer


@pytest.fixture(
    params=["frame", "decoder", "llama.cpp", "Transformers", "ExLlamaV2 with pages", "ExLlamaV2 without pages"]
)
def under_test(request: pytest.FixtureRequest) -> Iterator[EngineUnderTest]:
    """Each engine in turn, with two places if it supports them."""
    name: str = request.param
    model: Any
    if name == "frame":
        model = EngineModel(CountingEngine(), small_tokenizer())
    elif name == "decoder":
        model = decoder_model()
    elif name == "llama.cpp":
        path: Path = request.getfixturevalue("small_gguf")
        options = {"n_ctx": 1024, "threads": 1, "threads_batch": 1, "parallel": 2, "flash_attn": "on"}
        loader = loader_named(name)
        model = loader.load(path, loader.Options.parse(options), keep_going)
    elif name == "Transformers":
        pytest.importorskip("transformers")
        loader = loader_named(name)
        options = {"max_seq_len": 512, "cpu": True}
        model = loader.load(request.getfixturevalue("tiny_folder"), loader.Options.parse(options), keep_going)
    else:
        pytest.importorskip("transformers")
        model = request.getfixturevalue("opens")(paged=name.endswith("with pages"), parallel=2, cache_size=4096)
    subject = EngineUnderTest(model, samples=name != "frame")
    yield subject
    subject.go_on()
    model.close()
