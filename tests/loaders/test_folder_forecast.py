"""The forecasts of folders, from config.json and the files' sizes: by arithmetic, without torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loaders import gpus
from loaders.exllamav2.loader import ExLlamaV2
from loaders.exllamav2_hf.loader import ExLlamaV2HF
from loaders.huggingface import loader as huggingface
from loaders.huggingface.loader import Transformers

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_attention_heads": 8,
    "num_key_value_heads": 2, "num_hidden_layers": 3, "max_position_embeddings": 4096, "torch_dtype": "bfloat16",
}  # fmt: skip
TOKEN = 2 * 3 * 2 * 8  # keys and values, layers, heads, width


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model.safetensors").write_bytes(bytes(10_000))
    return tmp_path


def test_transformers_on_the_cpu_widens_the_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "nvidia_free_memory", lambda: None)
    (device,) = Transformers.forecast(folder, Transformers.Options.parse({})).devices
    assert (device.weights, device.cache) == (20_000, 4096 * TOKEN * 4)
    (half,) = Transformers.forecast(folder, Transformers.Options.parse({"bf16": True, "max_seq_len": 512})).devices
    assert (half.weights, half.cache) == (10_000, 512 * TOKEN * 2)
    assert half.name == "memory"


def test_transformers_on_a_card(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "nvidia_free_memory", lambda: 10**6)
    found = Transformers.forecast(folder, Transformers.Options.parse({}))
    assert (found.devices[0].weights, found.devices[0].free) == (10_000, 10**6)
    assert found.sentence.startswith("Too big for the GPU")


@pytest.mark.parametrize("loader", [ExLlamaV2, ExLlamaV2HF])
def test_exllamav2_counts_its_cache_types(folder: Path, loader: type[ExLlamaV2]) -> None:
    full = loader.forecast(folder, loader.Options.parse({"max_seq_len": 1024}))
    small = loader.forecast(folder, loader.Options.parse({"max_seq_len": 1024, "cache_4bit": True}))
    assert full.devices[0].weights == 10_000
    assert full.devices[0].cache == 1024 * TOKEN * 2
    assert small.devices[0].cache < full.devices[0].cache / 3


def test_without_a_driver_there_is_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus.shutil, "which", lambda _: None)
    assert gpus.nvidia_free_memory() is None


@pytest.mark.parametrize(
    ("config", "values"),
    [
        ({"model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 3, "state_size": 16}, 0),
        ({"model_type": "jamba", "num_hidden_layers": 8, "attn_layer_period": 8, "attn_layer_offset": 4}, 32 * 8192),
        ({"model_type": "gpt_neo", "num_layers": 2, "num_heads": 8, "num_hidden_layers": None}, 2 * 128 * 8192),
        ({"model_type": "mistral", "num_hidden_layers": 2, "sliding_window": 65}, 2 * 32 * 64),
    ],
    ids=lambda each: each["model_type"] if isinstance(each, dict) else "",
)
def test_transformers_counts_the_layers_that_keep_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, object], values: int
) -> None:
    monkeypatch.setattr(huggingface, "nvidia_free_memory", lambda: None)
    base = {} if config["model_type"] == "mamba" else {**CONFIG, "max_position_embeddings": 8192}
    if config["model_type"] == "gpt_neo":
        base = {"hidden_size": 64, "max_position_embeddings": 8192}
    (tmp_path / "config.json").write_text(json.dumps({**base, **config}))
    (tmp_path / "model.safetensors").write_bytes(bytes(10_000))
    found = Transformers.forecast(tmp_path, Transformers.Options.parse({}))
    assert found.devices[0].cache == values * 4
    assert "context: 8,192 tokens" in found.sentence.lower()
