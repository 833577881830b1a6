"""From load options to the fields of llama_context_params. llama_cpp itself is not imported."""

from __future__ import annotations

from typing import Any

from loaders.llamacpp.limits import Limits
from loaders.llamacpp.options import GGUFOptions

_GGML_TYPES = {"f16": 1, "q8_0": 8, "q4_0": 2}
_FLASH = {"auto": -1, "on": 1, "off": 0}


def context_params(options: GGUFOptions, limits: Limits, cells: int) -> dict[str, Any]:
    """The fields of llama_context_params on which its memory depends, for a context of `cells` tokens."""
    return {
        "n_ctx": cells,
        "n_batch": limits.tokens,
        "n_ubatch": min(limits.tokens, 512),
        "n_seq_max": limits.sequences,
        "n_outputs_max": limits.rows,
        "kv_unified": limits.shared,
        "type_k": _GGML_TYPES[options.cache_type],
        "type_v": _GGML_TYPES[options.cache_type],
        "no_perf": True,
        **attention_params(options),
    }


def attention_params(options: GGUFOptions) -> dict[str, Any]:
    """Those of them that say how attention is computed."""
    return {
        "flash_attn_type": _FLASH[options.flash_attn],
        "offload_kqv": not options.no_offload_kqv,
        "rope_freq_base": options.rope_base(),
        "rope_freq_scale": 1 / options.compress_pos_emb if options.compress_pos_emb != 1 else 0.0,
    }
