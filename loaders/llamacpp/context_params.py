"""From load options to the fields of llama_context_params. llama_cpp itself is not imported."""

from __future__ import annotations

from typing import Any

from errors import InvalidInput
from loaders.llamacpp.gguf import GGUFHeader
from loaders.llamacpp.limits import Limits
from loaders.llamacpp.options import GGUFOptions

F16 = 1  # ggml_type
_GGML_TYPES = {"f16": F16, "bf16": 30, "q8_0": 8, "q5_1": 7, "q5_0": 6, "q4_1": 3, "q4_0": 2, "iq4_nl": 20}
_PLAIN = ("f16", "bf16")
#: Rows that llama.cpp computes at once, at least: fewer read the weights too often.
_FEWEST_ROWS = 64
#: Bytes that the scores of one layer's attention may take: rows * cells * heads, in float32.
_SCORES = 256 * 2**20
_FLASH = {"auto": -1, "on": 1, "off": 0}


def key_type(header: GGUFHeader, options: GGUFOptions, limits: Limits) -> tuple[str, str]:
    """The type in which the cache keeps the keys, and why it is not the one that was asked for ("" where it is).

    To shift quantized keys llama.cpp rotates them by a matrix that it makes only where the size of a head is a multiple
    of 64, and the same in all layers; where it is not, it would end the whole program at the first shift.
    """
    sizes, asked = header.head_sizes, options.cache_types()[0]
    if asked in _PLAIN or limits.keep is None or (len(sizes) == 1 and not min(sizes) % 64):
        return asked, ""
    told = " and ".join(f"{size}" for size in sorted(sizes))
    return "f16", (
        f"the cache's keys stay at f16, as context_shift is on: llama.cpp cannot shift {asked} keys in "
        f"heads of {told} values, only of a multiple of 64"
    )


def context_params(
    options: GGUFOptions, limits: Limits, cells: int, keys: str, flash: str, heads: int
) -> dict[str, Any]:
    """The fields of llama_context_params on which its memory depends, for a context of `cells` tokens.

    `keys`: the type of the cache's keys (`key_type`). `flash`: the option flash_attn as `attention.choose` resolves it.
    `heads`: those of a layer.
    """
    values = options.cache_types()[1]
    if values not in _PLAIN and options.flash_attn == "off":
        raise InvalidInput(
            f"The cache's values can be {values} only with flash attention: set flash_attn to auto or on, or "
            "cache_type_v to f16."
        )
    return {
        "n_ctx": cells,
        "n_batch": limits.tokens,
        "n_ubatch": min(limits.tokens, _rows(options.n_ubatch, cells, heads) if flash == "off" else options.n_ubatch),
        "n_seq_max": limits.sequences,
        "n_outputs_max": limits.rows,
        "kv_unified": limits.shared,
        "type_k": _GGML_TYPES[keys],
        "type_v": _GGML_TYPES[values],
        "swa_full": options.swa_full,
        "no_perf": True,
        **attention_params(options),
        "flash_attn_type": _FLASH[flash],
    }


def _rows(rows: int, cells: int, heads: int) -> int:
    """How many rows are computed at once without the flash kernel, which would not keep their scores in memory."""
    while rows > _FEWEST_ROWS and 4 * rows * cells * heads > _SCORES:
        rows //= 2
    return rows


def attention_params(options: GGUFOptions) -> dict[str, Any]:
    """Those of them that say how attention is computed."""
    return {
        "flash_attn_type": _FLASH[options.flash_attn],
        "offload_kqv": not options.no_offload_kqv,
        "rope_freq_base": options.rope_base(),
        "rope_freq_scale": 1 / options.compress_pos_emb if options.compress_pos_emb != 1 else 0.0,
    }
