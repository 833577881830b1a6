"""Converts load options to the fields of llama_context_params. llama_cpp itself is not imported."""

from __future__ import annotations

from typing import Any

from errors import InvalidInput
from loaders.llamacpp.engine.limits import EngineLimits
from loaders.llamacpp.gguf import GGUFHeader
from loaders.llamacpp.options import GGUFOptions

F16 = 1  # ggml_type
_GGML_TYPES = {"f16": F16, "bf16": 30, "q8_0": 8, "q5_1": 7, "q5_0": 6, "q4_1": 3, "q4_0": 2, "iq4_nl": 20}
_PLAIN = ("f16", "bf16")
_BLOCK = 32  # values per block
#: The minimum of rows that llama.cpp computes at once: with fewer, the weights are read too often.
_FEWEST_ROWS = 64
#: Maximum bytes of one layer's attention scores: rows * cells * heads, in float32.
_SCORES = 256 * 2**20
_FLASH = {"auto": -1, "on": 1, "off": 0}


def choose_key_type(header: GGUFHeader, options: GGUFOptions, limits: EngineLimits) -> tuple[str, str]:
    """The type in which the cache stores the keys, and why it is not the requested one ("" if it is).

    To shift quantized keys, llama.cpp rotates them by a matrix that exists only if the head size is a multiple of 64
    and the same in all layers; otherwise the first shift would crash the whole program.
    """
    sizes, asked = header.head_sizes, options.choose_cache_types()[0]
    if asked in _PLAIN or limits.keep is None or (len(sizes) == 1 and not min(sizes) % 64):
        return asked, ""
    told = " and ".join(f"{size}" for size in sorted(sizes))
    return "f16", (
        f"the cache's keys stay at f16 because context_shift is on: llama.cpp cannot shift {asked} keys with "
        f"heads of {told} values, only of a multiple of 64"
    )


def check_blocks(header: GGUFHeader, keys: str, values: str, flash: str) -> None:
    """Raises: InvalidInput if heads are not whole blocks of a cache type, which the flash kernel requires."""
    if flash == "off" or not header.n_heads:
        return
    width = int(header.get("embedding_length", 0)) // header.n_heads
    sizes = {"k": header.head_sizes, "v": {int(header.get("attention.value_length", width))}}
    for part, kind in (("k", keys), ("v", values)):
        odd = [size for size in sizes[part] if size % _BLOCK]
        if kind not in _PLAIN and odd:
            more = ", or flash_attn to off" if part == "k" and values in _PLAIN else ""
            raise InvalidInput(
                f"The cache of this model cannot be {kind}, which requires blocks of {_BLOCK} values: its heads "
                f"have {min(odd)}. Set cache_type_{part} to f16{more}."
            )


def context_params(
    options: GGUFOptions, limits: EngineLimits, cells: int, keys: str, flash: str, heads: int
) -> dict[str, Any]:
    """The fields of llama_context_params that determine its memory, for a context of `cells` tokens.

    `keys`: the type of the cache's keys (`choose_key_type`). `flash`: the option flash_attn as `attention.choose`
    resolves it. `heads`: those of a layer.
    """
    values = options.choose_cache_types()[1]
    if values not in _PLAIN and options.flash_attn == "off":
        raise InvalidInput(
            f"cache_type_v {values} requires flash attention. Set flash_attn to auto or on, or cache_type_v to f16."
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
    """How many rows are computed at once without the flash kernel, which would not store their scores in memory."""
    while rows > _FEWEST_ROWS and 4 * rows * cells * heads > _SCORES:
        rows //= 2
    return rows


def attention_params(options: GGUFOptions) -> dict[str, Any]:
    """The fields that select the attention kernel."""
    return {
        "flash_attn_type": _FLASH[options.flash_attn],
        "offload_kqv": not options.no_offload_kqv,
        "rope_freq_base": options.compute_rope_base(),
        "rope_freq_scale": 1 / options.compress_pos_emb if options.compress_pos_emb != 1 else 0.0,
    }
