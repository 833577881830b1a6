"""LoRA adapters on the Transformers loader: several, with scales, and exactly the base model's output without them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

from errors import IncompatibleAdapter
from loaders.base import Lora, Model, Request
from tests.loaders.hf_common.test_model import QUESTION


@pytest.fixture
def model(transformers_model: Model) -> Iterator[Model]:
    yield transformers_model
    transformers_model.set_loras([])


def write_lora(model: Model, path: Path, seed: int, **shape: int) -> Path:
    """An adapter of rank 4 with an effect, by peft itself, on a model of the same or another shape."""
    config = LlamaConfig(**{**model.pretrained.config.to_dict(), **shape})  # type: ignore[attr-defined]
    torch.manual_seed(seed)
    with torch.device("meta"):
        bare = AutoModelForCausalLM.from_config(config)
    made = get_peft_model(bare, LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"]))
    made = made.to_empty(device="cpu")
    for name, weight in made.named_parameters():
        if "lora_" in name:
            weight.data.normal_(0, 0.05)
    made.save_pretrained(path)
    return path


def logits(model: Model) -> np.ndarray:
    return model.next_logits(Request(model.tokenizer.encode(QUESTION)))


def test_on_several_strengths_and_off(model: Model, tmp_path: Path) -> None:
    model.set_loras([])  # nothing in the cache: reading in other chunks rounds differently
    base = logits(model)
    a, b = write_lora(model, tmp_path / "a", 1), write_lora(model, tmp_path / "b", 2)
    model.set_loras([Lora(a)])
    one = logits(model)
    assert np.abs(one - base).max() > 0.1
    assert [lora.path.name for lora in model.loras] == ["a"]
    model.set_loras([Lora(a), Lora(b)])
    both = logits(model)
    assert np.abs(both - one).max() > 0.1
    model.set_loras([Lora(a, 0.5)])
    half = logits(model)
    assert 0 < np.abs(half - base).max() < np.abs(one - base).max() * 1.5
    model.set_loras([Lora(a)])
    np.testing.assert_allclose(logits(model), one, atol=1e-4)
    model.set_loras([])
    np.testing.assert_array_equal(logits(model), base)
    assert model.loras == ()


def test_a_folder_that_was_trained_again_is_loaded_again(model: Model, tmp_path: Path) -> None:
    a = write_lora(model, tmp_path / "a", 1)
    model.set_loras([Lora(a)])
    one = logits(model)
    shutil.rmtree(a)
    write_lora(model, a, 2)
    model.set_loras([Lora(a)])
    assert np.abs(logits(model) - one).max() > 0.1


def test_an_unfit_one_changes_nothing(model: Model, tmp_path: Path) -> None:
    a = write_lora(model, tmp_path / "a", 1)
    model.set_loras([Lora(a)])
    before = logits(model)
    wrong = write_lora(
        model, tmp_path / "wrong", 3, hidden_size=288, num_attention_heads=9, num_key_value_heads=3, head_dim=32
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (wrong, empty, tmp_path / "nowhere"):
        with pytest.raises(IncompatibleAdapter):
            model.set_loras([Lora(path)])
        np.testing.assert_allclose(logits(model), before, atol=1e-3)
        assert [lora.path.name for lora in model.loras] == ["a"]
