"""GGUF files with the real shapes of well-known models and no weights: as large as the real ones by their headers, a
few kilobytes on disk (the rest is sparse).

For what hangs on sizes alone: where a model goes, and what it takes there. Hyperparameters are those of the published
configurations; types are mixed as in a Q4_K_M (gpt-oss: MXFP4 experts). They must not be asked for text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gguf

from tests.zoo.ggufs import RECIPES

_KINDS = {str: "STRING", int: "UINT32", float: "FLOAT32", bool: "BOOL"}
_BLOCKS = {name: gguf.GGML_QUANT_SIZES[getattr(gguf.GGMLQuantizationType, name)]
           for name in ("F32", "F16", "Q8_0", "Q5_0", "Q4_K", "Q6_K", "MXFP4")}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """`kv` and `head`: heads of keys, and values in a head. `ff`: width of the feed-forward part of blocks without
    experts, and of all where there are none. `used` of `experts` work, each `expert_ff` wide, beside `shared_ff`; the
    first `dense` blocks have none. `attention`: the blocks with attention, where the others are Mamba's; None: all.
    """

    architecture: str
    blocks: int
    width: int
    heads: int
    kv: int
    head: int
    ff: int
    vocabulary: int
    tied: bool = False
    experts: int = 0
    used: int = 0
    expert_ff: int = 0
    shared_ff: int = 0
    dense: int = 0
    attention: tuple[int, ...] | None = None
    features: frozenset[str] = frozenset()
    more: Mapping[str, Any] = field(default_factory=dict)


_MAMBA = {
    "ssm.conv_kernel": 4, "ssm.inner_size": 8192, "ssm.state_size": 128, "ssm.time_step_rank": 128,
    "ssm.group_count": 1,
}  # fmt: skip

FAMILIES: Mapping[str, Family] = {
    "Llama 3.1 8B": Family("llama", 32, 4096, 32, 8, 128, 14336, 128256),
    "Qwen 2.5 7B": Family("qwen2", 28, 3584, 28, 4, 128, 18944, 152064, features=frozenset({"bias"})),
    "Phi 4 14B": Family("phi3", 40, 5120, 40, 10, 128, 17920, 100352, features=frozenset({"fused"})),
    "Mistral Small 24B": Family("llama", 40, 5120, 32, 8, 128, 32768, 131072),
    "Gemma 3 12B": Family(
        "gemma3", 48, 3840, 16, 8, 256, 15360, 262144, tied=True, features=frozenset({"norms", "post"}),
        more={"attention.sliding_window": 1024},
    ),
    "Mixtral 8x7B": Family("llama", 32, 4096, 32, 8, 128, 14336, 32000, experts=8, used=2, expert_ff=14336),
    "Qwen 3 30B-A3B": Family(
        "qwen3moe", 48, 2048, 32, 4, 128, 6144, 151936, experts=128, used=8, expert_ff=768,
        features=frozenset({"norms"}),
    ),
    "gpt-oss 20B": Family(
        "gpt-oss", 24, 2880, 64, 8, 64, 2880, 201088, experts=32, used=4, expert_ff=2880,
        features=frozenset({"bias", "sinks"}), more={"attention.sliding_window": 128},
    ),
    "GLM 4.5 Air": Family(
        "glm4moe", 46, 4096, 96, 8, 128, 10944, 151552, experts=128, used=8, expert_ff=1408, shared_ff=1408, dense=1,
        features=frozenset({"bias", "expert bias"}),
        more={
            "leading_dense_block_count": 1, "expert_shared_count": 1, "rope.dimension_count": 64,
            "expert_weights_scale": 1.0, "expert_weights_norm": True, "expert_gating_func": 2,
        },
    ),
    "Granite 4 H Small": Family(
        "granitehybrid", 40, 4096, 32, 8, 128, 768, 100352, tied=True, experts=72, used=10, expert_ff=768,
        shared_ff=1536, attention=(5, 15, 25, 35),
        more={
            **_MAMBA, "expert_shared_feed_forward_length": 1536, "rope.dimension_count": 128, "attention.scale": 0.0078,
            "embedding_scale": 12.0, "residual_scale": 0.22, "logit_scale": 16.0, "rope.scaling.finetuned": False,
        },
    ),
}  # fmt: skip


def small(name: str, blocks: int, vocabulary: int = 8192) -> Family:
    """A family with fewer blocks and words, for what takes the memory that it asks for. Shapes stay as they are."""
    family = FAMILIES[name]
    attention = None if family.attention is None else tuple(range(1, blocks, 4))
    return replace(family, blocks=blocks, vocabulary=vocabulary, attention=attention)


def write(family: Family, path: Path, *, words: bool = False) -> Path:
    """Make the file. `words`: with a vocabulary; without one llama.cpp reads it in no time, and makes no text of it."""
    writer = gguf.GGUFWriter(path, family.architecture)
    for key, value in _metadata(family).items():
        kinds = [gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.INT32] if isinstance(value, list) else (
            [getattr(gguf.GGUFValueType, _KINDS[type(value)])]
        )  # fmt: skip
        writer.add_key_value(f"{family.architecture}.{key}", value, *kinds)
    if words:
        _add_words(writer, family.vocabulary)
    else:
        writer.add_string("tokenizer.ggml.model", "no_vocab")
    size = 0
    for name, shape in _tensors(family):
        kind = _kind(family, name, shape)
        values, block = _BLOCKS[kind]
        taken = math.prod(shape) // values * block
        code = getattr(gguf.GGMLQuantizationType, kind)
        writer.add_tensor_info(name, shape, _dtype(), taken, code)
        size += -(-taken // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        start = -(-file.seek(0, 2) // 32) * 32
        file.truncate(start + size)
    return path


def _dtype() -> Any:
    import numpy as np

    return np.dtype(np.float32)


def _add_words(writer: gguf.GGUFWriter, count: int) -> None:
    """The zoo's vocabulary, and words that never come."""
    shared = json.loads((RECIPES / "vocabulary.json").read_text("utf-8"))
    tokens, kinds = shared["tokenizer.ggml.tokens"], shared["tokenizer.ggml.token_type"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*tokens, *(f"never{number}" for number in range(count - len(tokens)))])
    writer.add_token_types([*kinds, *[1] * (count - len(tokens))])
    writer.add_token_merges(shared["tokenizer.ggml.merges"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _metadata(family: Family) -> dict[str, Any]:
    kv: Any = family.kv
    if family.attention is not None:
        kv = [family.kv if number in family.attention else 0 for number in range(family.blocks)]
    found: dict[str, Any] = {
        "block_count": family.blocks, "context_length": 131072, "embedding_length": family.width,
        "feed_forward_length": family.ff, "attention.head_count": family.heads, "attention.head_count_kv": kv,
        "attention.key_length": family.head, "attention.value_length": family.head, "rope.freq_base": 1e6,
        "attention.layer_norm_rms_epsilon": 1e-6, "vocab_size": family.vocabulary,
    }  # fmt: skip
    if family.experts:
        found |= {
            "expert_count": family.experts, "expert_used_count": family.used,
            "expert_feed_forward_length": family.expert_ff,
        }  # fmt: skip
    if family.architecture == "phi3":
        found |= {"rope.dimension_count": family.head}
    return {**found, **family.more}


def _tensors(family: Family) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "token_embd.weight", (family.vocabulary, family.width)
    yield "output_norm.weight", (family.width,)
    if not family.tied:
        yield "output.weight", (family.vocabulary, family.width)
    for number in range(family.blocks):
        for name, shape in _block(family, number):
            yield f"blk.{number}.{name}", shape


def _block(family: Family, number: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, q, kv = family.width, family.heads * family.head, family.kv * family.head
    yield "attn_norm.weight", (width,)
    if family.attention is None or number in family.attention:
        if "fused" in family.features:
            yield "attn_qkv.weight", (q + 2 * kv, width)
        else:
            for name, rows in (("q", q), ("k", kv), ("v", kv)):
                yield f"attn_{name}.weight", (rows, width)
                if "bias" in family.features:
                    yield f"attn_{name}.bias", (rows,)
        yield "attn_output.weight", (width, q)
        if "norms" in family.features:
            yield "attn_q_norm.weight", (family.head,)
            yield "attn_k_norm.weight", (family.head,)
        if "sinks" in family.features:
            yield "attn_sinks.weight", (family.heads,)
            yield "attn_output.bias", (width,)
    else:
        yield from _mamba(family)
    if family.architecture in ("gpt-oss", "glm4moe"):
        yield "post_attention_norm.weight", (width,)
    else:
        yield "ffn_norm.weight", (width,)
    if "post" in family.features:
        yield "post_attention_norm.weight", (width,)
        yield "post_ffw_norm.weight", (width,)
    if family.experts and number >= family.dense:
        yield from _expert_tensors(family)
    elif "fused" in family.features:
        yield "ffn_up.weight", (2 * family.ff, width)
        yield "ffn_down.weight", (width, family.ff)
    else:
        yield "ffn_gate.weight", (family.ff, width)
        yield "ffn_up.weight", (family.ff, width)
        yield "ffn_down.weight", (width, family.ff)


def _expert_tensors(family: Family) -> Iterator[tuple[str, tuple[int, ...]]]:
    count, ff, width = family.experts, family.expert_ff, family.width
    yield "ffn_gate_inp.weight", (count, width)
    yield "ffn_gate_exps.weight", (count, ff, width)
    yield "ffn_up_exps.weight", (count, ff, width)
    yield "ffn_down_exps.weight", (count, width, ff)
    if "sinks" in family.features:  # gpt-oss
        yield "ffn_gate_inp.bias", (count,)
        yield "ffn_gate_exps.bias", (count, ff)
        yield "ffn_up_exps.bias", (count, ff)
        yield "ffn_down_exps.bias", (count, width)
    if "expert bias" in family.features:
        yield "exp_probs_b.bias", (count,)
    if family.shared_ff:
        yield "ffn_gate_shexp.weight", (family.shared_ff, width)
        yield "ffn_up_shexp.weight", (family.shared_ff, width)
        yield "ffn_down_shexp.weight", (width, family.shared_ff)


def _mamba(family: Family) -> Iterator[tuple[str, tuple[int, ...]]]:
    inner, state, heads = (family.more[f"ssm.{name}"] for name in ("inner_size", "state_size", "time_step_rank"))
    groups = family.more["ssm.group_count"]
    convolved = inner + 2 * groups * state
    yield "ssm_a", (heads, 1)
    yield "ssm_d", (heads, 1)
    yield "ssm_conv1d.weight", (convolved, 4)
    yield "ssm_conv1d.bias", (convolved,)
    yield "ssm_dt.bias", (heads,)
    yield "ssm_in.weight", (inner + convolved + heads, family.width)
    yield "ssm_norm.weight", (groups, inner // groups)
    yield "ssm_out.weight", (family.width, inner)


def _kind(family: Family, name: str, shape: tuple[int, ...]) -> str:
    """The type of a tensor, as llama-quantize would choose it for Q4_K_M, about."""
    if (
        len(shape) == 1
        or name.endswith("bias")
        or any(part in name for part in ("ssm_a", "ssm_d", "conv", "_norm", "inp"))
    ):
        return "F32"
    if family.architecture == "gpt-oss":
        return "MXFP4" if "exps" in name else "Q8_0"
    if shape[-1] % 256:
        return "Q5_0"
    part = name.split(".")
    number, last = int(part[1]) if part[0] == "blk" else 0, family.blocks
    finer = number < last // 8 or number >= 7 * last // 8 or (number - last // 8) % 3 == 2
    fine = name == "output.weight" or (finer and ("attn_v" in name or "ffn_down" in name))
    return "Q6_K" if fine or (family.tied and name == "token_embd.weight") else "Q4_K"
