"""How a model can continue is detected with every dtype, and the result also holds for its real window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from loaders.huggingface.cache import CacheUsage
from loaders.huggingface.cache_probe import _short_windows, is_known_to_continue, probe_continuation
from tests.zoo.folders import _PLAIN, CONTEXT, FOLDERS, Kind, model_of


def encode(text: str) -> list[int]:
    return [10 + byte % 380 for byte in text.encode()]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["jamba", "mamba", "gemma3", "gpt-oss", "qwen3-next", "bamba", "recurrent-gemma"])
def test_in_every_precision(name: str, dtype: torch.dtype) -> None:
    model = model_of(FOLDERS[name]).to(dtype)
    found = probe_continuation(model, encode, CONTEXT)
    assert found.follow == FOLDERS[name].follow
    assert bool(found.note) == (found.follow is not None)
    assert found.way == CacheUsage(positions=name == "bamba")


def test_windows_that_are_longer_than_the_text_are_looked_at_and_come_back() -> None:
    """A window of 4,096 tokens that only the config has shows in a text of a hundred."""
    stray = Kind("llama", {**_PLAIN, "sliding_window": 4096})
    model = model_of(stray)
    assert probe_continuation(model, encode, CONTEXT).way.layers == "all"
    assert model.config.sliding_window == 4096
    kind = FOLDERS["mistral-window"]
    model = model_of(replace(kind, config={**kind.config, "sliding_window": 4096}))
    assert probe_continuation(model, encode, CONTEXT).way.layers == "config"
    ids = torch.tensor([encode("x y z" * 20)])
    with torch.inference_mode():
        long = model(input_ids=ids, use_cache=False).logits
        with _short_windows(model):
            short = model(input_ids=ids, use_cache=False).logits
        assert torch.equal(model(input_ids=ids, use_cache=False).logits, long)
    assert not torch.allclose(short, long, atol=1e-2)


class Forgetful(torch.nn.Module):
    """A model that loses what it has read where more than `most` tokens follow, as a folder's own code might."""

    _is_stateful = False

    def __init__(self, model: Any, most: int) -> None:
        super().__init__()
        self.model, self.most = model, most
        self.config, self.dtype, self.device = model.config, model.dtype, model.device

    def forward(
        self, input_ids: Any, past_key_values: Any = None, use_cache: bool = True, return_dict: bool = True
    ) -> Any:
        if past_key_values is not None and past_key_values.get_seq_length() and input_ids.shape[1] > self.most:
            past_key_values.crop(-past_key_values.get_seq_length())
        return self.model(input_ids=input_ids, past_key_values=past_key_values, use_cache=use_cache, return_dict=True)


@pytest.mark.parametrize(("most", "follow"), [(0, 0), (1, 1), (5, 1), (10**6, None)])
def test_code_of_unknown_origin(most: int, follow: int | None) -> None:
    model = Forgetful(model_of(FOLDERS["llama"]), most)
    assert not is_known_to_continue(model)
    assert probe_continuation(model, encode, CONTEXT).follow == follow


def test_a_context_that_is_too_short_to_tell_has_no_cache() -> None:
    assert probe_continuation(model_of(FOLDERS["jamba"]), encode, 20).follow == 0
    assert probe_continuation(model_of(FOLDERS["jamba"]), encode, 60).follow == 1


def test_full_attention_needs_no_look() -> None:
    plain = {name for name in FOLDERS if is_known_to_continue(model_of(FOLDERS[name]))}
    assert {"llama", "qwen3", "gpt2", "mixtral"} <= plain
    assert not plain & {"jamba", "mamba", "rwkv", "gemma3", "recurrent-gemma", "openai-gpt", "bamba", "lfm2"}
