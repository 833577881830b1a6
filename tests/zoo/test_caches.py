"""The forecast of a cache compared with the cache that transformers really creates, value for value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from loaders.huggingface.cache_size import count_cache_values
from loaders.huggingface.folder import read_folder
from tests.zoo.folders import _OWN_KEYS, _PLAIN, CONTEXT, FOLDERS, VOCABULARY, WINDOW, Kind, config_of, model_of

#: Configurations that the zoo need not talk to, or in the words of older files.
MORE: dict[str, Kind] = {
    "qwen2, window off": Kind("qwen2", {**_PLAIN, "sliding_window": WINDOW, "use_sliding_window": False}),
    "qwen2, window in some layers": Kind(
        "qwen2", {**_PLAIN, "sliding_window": WINDOW, "use_sliding_window": True, "max_window_layers": 1}
    ),
    "phi3, window": Kind("phi3", {**_PLAIN, "sliding_window": WINDOW}),
    "gpt-bigcode": Kind("gpt_bigcode", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}),
    "gpt-bigcode, all heads": Kind(
        "gpt_bigcode", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT, "multi_query": False}
    ),
    "falcon, all heads": Kind("falcon", {**_OWN_KEYS, "multi_query": False}),
    "gpt-j": Kind("gptj", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT, "rotary_dim": 8}),
    "gpt-neox": Kind("gpt_neox", _OWN_KEYS),
    "opt": Kind("opt", {**_OWN_KEYS, "ffn_dim": 64, "word_embed_proj_dim": 64}),
    "starcoder2": Kind("starcoder2", {**_PLAIN, "sliding_window": WINDOW}),
    "lfm2, by number": Kind("lfm2", {**_PLAIN, "num_hidden_layers": 3, "full_attn_idxs": [1]}),
    "gemma3n": Kind(
        "gemma3n_text",
        {
            **_PLAIN, "head_dim": 16, "num_hidden_layers": 4, "num_kv_shared_layers": 2, "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention"] * 2, "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": VOCABULARY, "laurel_rank": 8, "intermediate_size": [128] * 4,
            "activation_sparsity_pattern": [0.0] * 4,
        },
    ),
    "gemma4": Kind(
        "gemma4_text",
        {
            **_PLAIN, "head_dim": 16, "global_head_dim": 32, "num_hidden_layers": 4, "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention"] * 2, "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": VOCABULARY,
        },
    ),
    "deepseek-v3": Kind(
        "deepseek_v3",
        {
            **_PLAIN, "num_key_value_heads": 4, "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 16, "v_head_dim": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
            "topk_group": 1, "moe_intermediate_size": 64, "first_k_dense_replace": 1,
        },
    ),
    "olmo3": Kind("olmo3", {**_PLAIN, "sliding_window": WINDOW, "num_hidden_layers": 4}),
    "smollm3": Kind("smollm3", _PLAIN),
}  # fmt: skip
CASES = {**FOLDERS, **MORE}

#: They give no cache to look at, or one of their own.
_NO_CACHE = ("recurrent-gemma", "openai-gpt", "minimax")


def kept(kind: Kind, tokens: int) -> tuple[int, Mapping[str, Any]]:
    """The keys and values of a real cache after so many tokens, and the whole config."""
    import torch

    from loaders.huggingface.cache import TransformersCache

    model = model_of(kind)
    cache = TransformersCache(model)
    for at in range(0, tokens, 90):  # windows keep less of a later piece
        cache.read([7] * min(90, tokens - at))
    layers = getattr(cache._kept, "layers", [])
    pairs = [(getattr(layer, "keys", None), getattr(layer, "values", None)) for layer in layers]
    return sum(each.numel() for pair in pairs for each in pair if torch.is_tensor(each)), model.config.to_dict()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("name", [name for name in CASES if name not in _NO_CACHE])
@pytest.mark.parametrize("tokens", [20, 200])
def test_the_forecast_is_the_real_cache(name: str, tokens: int) -> None:
    kind = CASES[name]
    real, whole = kept(kind, tokens)
    short = {"model_type": kind.model_type, **kind.config}
    assert count_cache_values(whole, tokens) == real
    assert count_cache_values(short, tokens) == real, "a config.json that leaves defaults out"
    assert count_cache_values({"text_config": short, "model_type": "seer"}, tokens) == real
    inferred = {name: value for name, value in whole.items() if name != "layer_types"}
    if not any(name in kind.config for name in ("layer_types", "attn_layer_indices", "hybrid_override_pattern")):
        assert count_cache_values(inferred, tokens) == real, "an older config.json, without a list of layers"


@pytest.mark.parametrize("name", [name for name, kind in FOLDERS.items() if "mamba" not in name])
def test_the_context_is_found_under_every_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config_of(FOLDERS[name]).to_dict(), default=str))
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert read_folder(tmp_path).context_length == FOLDERS[name].config.get("max_position_embeddings", CONTEXT)


@pytest.mark.parametrize(
    "config",
    [{}, {"num_hidden_layers": 10**9, "hidden_size": 64}, {"num_hidden_layers": 2, "layer_types": [None, 3]},
     {"num_hidden_layers": "x"}, {"num_hidden_layers": 2, "text_config": 5, "attn_layer_period": -1}],
    ids=str,
)  # fmt: skip
def test_strange_configs_have_a_forecast(config: dict[str, Any]) -> None:
    assert count_cache_values(config, 100) >= 0
