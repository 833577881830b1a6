"""LoRA adapters on the native loader: they have an effect, they add up, and without them the base model is restored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from errors import UserError
from loaders import loader_named
from loaders.base import Lora, Model, Request
from loaders.params import SamplingParams
from tests.conftest import keep_going
from tests.loaders.llamacpp.gguf_writer import write_gguf

IDS = list(range(1000, 1040))
WIDTH, RANK = 576, 4  # of SmolLM2's embedding, and of the adapter


@pytest.fixture(scope="module")
def model(demo_model_path: Path) -> Iterator[Model]:
    loader = loader_named("llama.cpp")
    options = {"n_ctx": 512, "threads": 1, "threads_batch": 1, "parallel": 2}
    with loader.load(demo_model_path, loader.Options.parse(options), keep_going) as model:
        yield model


def adapter(path: Path, seed: int, architecture: str = "llama", width: int = WIDTH) -> Path:
    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in range(4):
        name = f"blk.{layer}.attn_q.weight"
        tensors[f"{name}.lora_a"] = rng.standard_normal((RANK, width)).astype(np.float32) * 0.2
        tensors[f"{name}.lora_b"] = rng.standard_normal((width, RANK)).astype(np.float32) * 0.2
    metadata = {
        "general.architecture": architecture,
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": float(RANK),
    }
    write_gguf(path, metadata, tensors)
    return path


def logits(model: Model) -> np.ndarray:
    return model.next_logits(Request(IDS))


def test_an_adapter_acts_with_its_strength_and_leaves_no_trace(model: Model, tmp_path: Path) -> None:
    base = logits(model)
    one, two = adapter(tmp_path / "one.gguf", 1), adapter(tmp_path / "two.gguf", 2)
    model.set_loras([Lora(one)])
    with_one = logits(model)
    assert np.abs(with_one - base).max() > 0.01
    model.set_loras([Lora(one, 0.25)])
    quarter = logits(model)
    assert 0 < np.abs(quarter - base).mean() < np.abs(with_one - base).mean()
    model.set_loras([Lora(one), Lora(two)])
    assert not np.allclose(logits(model), with_one)
    model.set_loras([Lora(one, 0.0)])
    assert np.abs(logits(model) - base).max() < 1e-3
    model.set_loras([])
    assert np.array_equal(logits(model), base)
    assert model.loras == ()


def test_a_file_that_was_trained_again_is_loaded_again(model: Model, tmp_path: Path) -> None:
    one, two = adapter(tmp_path / "one.gguf", 1), adapter(tmp_path / "two.gguf", 2)
    model.set_loras([Lora(two)])
    with_two = logits(model)
    model.set_loras([Lora(one)])
    two.replace(one)
    model.set_loras([Lora(one)])
    assert np.array_equal(logits(model), with_two)
    model.set_loras([])


@pytest.mark.parametrize("bad", ["absent", "no gguf", "another architecture", "another shape", "the model itself"])
def test_what_is_no_adapter_of_this_model_is_a_sentence_and_changes_nothing(
    model: Model, tmp_path: Path, demo_model_path: Path, bad: str
) -> None:
    good = adapter(tmp_path / "good.gguf", 3)
    model.set_loras([Lora(good)])
    before = logits(model)
    path = tmp_path / "bad.gguf"
    if bad == "no gguf":
        path.write_bytes(b"not a model at all")
    elif bad == "another architecture":
        adapter(path, 1, architecture="qwen2")
    elif bad == "another shape":
        adapter(path, 1, width=64)
    elif bad == "the model itself":
        path = demo_model_path
    with pytest.raises(UserError, match=path.name):
        model.set_loras([Lora(good), Lora(path)])
    assert [(each.path, each.scale) for each in model.loras] == [(good, 1.0)]
    assert np.array_equal(logits(model), before)
    model.set_loras([])


def test_what_runs_ends_as_it_began(model: Model, tmp_path: Path) -> None:
    params = SamplingParams(do_sample=False, ban_eos_token=True)
    alone = [token.id for token in model.generate(Request(IDS, params, 24))]
    stream = model.generate(Request(IDS, params, 24))
    first = next(stream).id
    model.set_loras([Lora(adapter(tmp_path / "a.gguf", 5), 2.0)])  # waits for it
    assert [first, *(token.id for token in stream)] == alone
    changed = [token.id for token in model.generate(Request(IDS, params, 24))]
    model.set_loras([])
    assert changed != alone
    assert [token.id for token in model.generate(Request(IDS, params, 24))] == alone
