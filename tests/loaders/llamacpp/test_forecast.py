"""The forecast against llama.cpp's own account, and the split over a card by arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loaders.llamacpp import dry_run, memory
from loaders.llamacpp.gguf import read_header
from loaders.llamacpp.loader import LlamaCpp


@pytest.mark.parametrize(
    "values", [{"n_ctx": 512}, {"n_ctx": 4096, "cache_type": "q8_0"}, {"n_ctx": 1024, "parallel": 2}]
)
def test_it_is_what_llama_cpp_takes(demo_model_path: Path, values: dict[str, Any]) -> None:
    options = LlamaCpp.Options.parse(values)
    forecast = LlamaCpp.forecast(demo_model_path, options)
    assert forecast
    with LlamaCpp.load(demo_model_path, options, lambda *_: True) as model:
        assert abs(forecast.total - model.memory) < 0.03 * model.memory
        assert any(note.startswith("memory taken") for note in model.notes)
    assert forecast.fits
    assert forecast.sentence.startswith("It fits: ")


def test_a_card_gets_the_last_layers(demo_model_path: Path) -> None:
    header = read_header(demo_model_path)
    plan = memory.forecast(header, 2048, "f16")
    buffers = {"CPU": 1, "CUDA_Host": 2, "CUDA0": 4}

    def split(layers: int, free: int = 10**10) -> Any:
        return memory.by_device(header, plan, layers, "as asked", buffers, ("CUDA0", free), 10**10)

    assert len(split(0).devices) == 1
    half = split(15).devices
    assert half[0].weights + half[1].weights == plan.weights
    assert half[0].cache == half[1].cache == plan.cache // 2
    assert (half[0].buffers, half[1].buffers) == (3, 4)
    everything = split(31).devices
    embeddings = next(tensor.size for tensor in header.tensors if tensor.name == "token_embd.weight")
    assert everything[0].weights == embeddings  # it stays, and is the output layer, too
    assert everything[1].weights == plan.weights
    tight = split(31, free=10**8)
    assert not tight.fits
    assert tight.sentence.startswith("Too big for CUDA0")


def test_a_file_that_llama_cpp_cannot_plan_is_no_answer(tmp_path: Path) -> None:
    assert dry_run.asked(dry_run.Question((str(tmp_path / "none.gguf"),), 0, ())) is None
