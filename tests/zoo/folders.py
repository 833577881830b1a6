"""Transformers folders with random weights, created on the spot: one small model per architecture in a table.

Weights are scaled up after they are drawn, for with transformers' own small ones a model hardly looks at what came
before, and a cache with nothing in it would pass for a good one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: All windows of the zoo, and the context of all its models.
WINDOW = 64
CONTEXT = 2048

#: Ids above this are control tokens; the walk draws from those below.
WORDS = range(10, 390)
VOCABULARY = 400


@dataclass(frozen=True)
class Kind:
    """One architecture: what its config is made of, and how its cache may be used (`Decoder.follow`)."""

    model_type: str
    config: Mapping[str, Any] = field(default_factory=dict)
    follow: int | None = None  # None: text in pieces; 1: single tokens after a prompt; 0: no cache of use


_PLAIN = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": CONTEXT,
}  # fmt: skip
_OWN_KEYS = {**_PLAIN, "num_key_value_heads": 4}
_WINDOWED = {**_PLAIN, "sliding_window": WINDOW, "head_dim": 16}
_EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
_MAMBA = {
    "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_chunk_size": 32,
}  # fmt: skip

#: By the names under which tests and tables show them.
FOLDERS: dict[str, Kind] = {
    "llama": Kind("llama", _PLAIN),
    "qwen3": Kind("qwen3", {**_PLAIN, "head_dim": 16}),
    "phi3": Kind("phi3", _PLAIN),
    "phi3-longrope": Kind(
        "phi3",
        {
            **_PLAIN, "original_max_position_embeddings": 300,
            "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [1.0 + n for n in range(8)]},
        },
    ),
    "llama-dynamic": Kind(
        "llama", {**_PLAIN, "max_position_embeddings": 300, "rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}
    ),
    "gpt2": Kind("gpt2", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}),
    "gpt-neo": Kind(
        "gpt_neo",
        {
            "hidden_size": 64, "num_layers": 2, "num_heads": 4, "max_position_embeddings": CONTEXT,
            "attention_types": [[["global", "local"], 1]], "window_size": WINDOW, "intermediate_size": 128,
        },
    ),
    "falcon": Kind("falcon", {**_PLAIN, "num_kv_heads": 2, "new_decoder_architecture": True}),
    "falcon-multi-query": Kind("falcon", {**_PLAIN, "multi_query": True, "alibi": False}),
    "bloom": Kind("bloom", {"hidden_size": 64, "n_layer": 2, "n_head": 4, "seq_length": CONTEXT}),
    "mpt": Kind("mpt", {"d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": CONTEXT}),
    "mixtral": Kind("mixtral", {**_PLAIN, **_EXPERTS}),
    "deepseek-v2": Kind(
        "deepseek_v2",
        {
            **_OWN_KEYS, "kv_lora_rank": 16, "q_lora_rank": None, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16,
            "v_head_dim": 16, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2,
            "moe_intermediate_size": 64, "topk_group": 1, "n_group": 1, "first_k_dense_replace": 1,
        },
    ),
    "minimax": Kind("minimax", {**_PLAIN, **_EXPERTS, "head_dim": 16, "block_size": 32}),
    "openai-gpt": Kind("openai-gpt", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}, follow=0),
    "llama, a window in its config that it does not have": Kind("llama", {**_PLAIN, "sliding_window": WINDOW}),
    "mistral-window": Kind("mistral", _WINDOWED),
    "gemma2": Kind("gemma2", {**_WINDOWED, "query_pre_attn_scalar": 16}),
    "gemma3": Kind("gemma3_text", {**_WINDOWED, "num_hidden_layers": 6, "query_pre_attn_scalar": 16}),
    "cohere2": Kind("cohere2", {**_WINDOWED, "num_hidden_layers": 4, "logit_scale": 1.0}),
    "gpt-oss": Kind("gpt_oss", {**_WINDOWED, **_EXPERTS}),
    "exaone4": Kind("exaone4", {**_WINDOWED, "num_hidden_layers": 4, "sliding_window_pattern": 4}),
    "llama4": Kind(
        "llama4_text",
        {
            **_PLAIN, **_EXPERTS, "num_hidden_layers": 4, "head_dim": 16, "attention_chunk_size": WINDOW,
            "intermediate_size_mlp": 128, "interleave_moe_layer_step": 2,
        },
    ),
    "jamba": Kind(
        "jamba",
        {
            **_PLAIN, "num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2,
            "expert_layer_period": 2, "expert_layer_offset": 1, "mamba_d_state": 16, "mamba_dt_rank": 8,
            "use_mamba_kernels": False,
        },
        follow=1,
    ),
    "granite-hybrid": Kind(
        "granitemoehybrid",
        {
            **_PLAIN, **_MAMBA, "num_hidden_layers": 3, "layer_types": ["mamba", "attention", "mamba"],
            "num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 64,
        },
    ),
    "bamba": Kind("bamba", {**_PLAIN, **_MAMBA, "num_hidden_layers": 3, "attn_layer_indices": [1]}),
    "falcon-h1": Kind("falcon_h1", {**_PLAIN, **_MAMBA, "head_dim": 16, "mamba_d_ssm": 128}),
    "nemotron-h": Kind(
        "nemotron_h",
        {
            **_PLAIN, "hybrid_override_pattern": "M*-M", "num_hidden_layers": 4, "head_dim": 16, "mamba_num_heads": 8,
            "mamba_head_dim": 16, "ssm_state_size": 16, "n_groups": 1, "chunk_size": 32,
        },
    ),
    "lfm2": Kind(
        "lfm2", {**_PLAIN, "num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"], "conv_L_cache": 3}
    ),
    "qwen3-next": Kind(
        "qwen3_next",
        {
            **_PLAIN, "num_hidden_layers": 4, "head_dim": 16, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
            "linear_num_key_heads": 2, "linear_num_value_heads": 4, "num_experts": 4, "num_experts_per_tok": 2,
            "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64,
        },
    ),
    "mamba": Kind("mamba", {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 8}, follow=1),
    "mamba2": Kind(
        "mamba2",
        {
            "hidden_size": 64, "num_hidden_layers": 2, "state_size": 8, "num_heads": 8, "head_dim": 16, "n_groups": 1,
            "chunk_size": 32,
        },
    ),
    "rwkv": Kind("rwkv", {"hidden_size": 64, "num_hidden_layers": 2, "context_length": CONTEXT}),
    "recurrent-gemma": Kind(
        "recurrent_gemma",
        {
            "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 1, "head_dim": 16, "lru_width": 64, "attention_window_size": WINDOW,
            "max_position_embeddings": CONTEXT,
        },
        follow=0,
    ),
}  # fmt: skip


def config_of(kind: Kind) -> Any:
    """Transformers' config object of an architecture."""
    from transformers import AutoConfig

    return AutoConfig.for_model(
        kind.model_type, **kind.config, vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=1, pad_token_id=2
    )


def model_of(kind: Kind) -> Any:
    """A model of random weights, the same ones each time."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config_of(kind)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2 and not any(part in name for part in ("embed", "wte", "conv", "A_log", "x_proj")):
                weight.mul_(_gain(weight))
    return model


def _gain(weight: Any) -> float:
    """What brings a matrix to about the strength of a trained one: an output as large as its input."""
    wide = weight.shape[-1]
    return float(min(12.0, max(1.0, 1.0 / (float(weight.float().std()) * wide**0.5 + 1e-6))))


def tokenizer_into(folder: Path) -> None:
    """Train a byte-level BPE on a few words and save it there with its configuration."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = Path(__file__).read_text(encoding="utf-8").splitlines()
    tokenizer.train_from_iterator(words, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))


def folder_of(kind: Kind, folder: Path) -> Path:
    """A whole folder as a user would have downloaded it."""
    model_of(kind).save_pretrained(folder)
    tokenizer_into(folder)
    return folder
