"""Computes the size of a model's KV cache from its config.json, without torch.

Families have different names for the same numbers, layers that keep no keys (recurrent ones, those that use an earlier
layer's), and layers that keep only a window. States of recurrent layers are not counted: their size does not grow with
the text and is negligible next to the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_KEY_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads", "multi_query_group_num")
_WIDTH = ("hidden_size", "n_embd", "d_model", "model_dim")
_HEAD_WIDTH = ("head_dim", "kv_channels", "d_head", "attention_head_dim")

#: The names of layer kinds, if they are listed one by one.
_LISTS = ("layer_types", "layers_block_type", "block_types", "_block_types")
_NO_KEYS = ("linear", "mamba", "conv", "recurrent", "ssm", "mlp", "moe")
_IN_WINDOW = ("sliding", "chunked", "local")

#: The interval of layers that see the whole text, if the config has a window and does not say it.
_PERIODS = {
    "gemma2": 2, "gpt_oss": 2, "gemma3": 6, "gemma3_text": 6, "cohere2": 4, "exaone4": 4, "llama4": 4, "llama4_text": 4,
    "olmo3": 4,
}  # fmt: skip

#: The interval of attention layers among linear ones, if the config does not say it.
_INTERVALS = {"qwen3_next": 4, "qwen3_5": 4, "qwen3_5_text": 4, "qwen3_5_moe": 4, "qwen3_5_moe_text": 4}

#: One key head for all, unless the config says that there are more.
_ONE_HEAD = frozenset(("falcon", "RefinedWebModel", "RefinedWeb", "gpt_bigcode"))


@dataclass(frozen=True)
class CachedLayer:
    """A layer that keeps keys: `values` per token, of the last `window` tokens, or of all if it is 0."""

    values: int
    window: int

    def at(self, tokens: int) -> int:
        """What it keeps of this many tokens. The current token itself is computed with, not kept."""
        return self.values * (min(tokens, self.window - 1) if self.window else tokens)


def count_cache_values(config: Mapping[str, Any], tokens: int) -> int:
    """Keys and values of this many tokens over all layers; 0 if config.json is incomplete or nothing is kept."""
    return sum(layer.at(tokens) for layer in cached_layers(config))


def cached_layers(config: Mapping[str, Any]) -> list[CachedLayer]:
    """The layers that keep keys and values."""
    inner = config.get("text_config")
    own = {**config, **inner} if isinstance(inner, Mapping) else dict(config)
    count = _number(own, *_LAYERS) or len(_listing(own))
    if not 0 < count <= 10_000:
        return []
    if not _number(own, *_HEADS[:-1]) and _number(own, "state_size"):
        return []  # Mamba: its heads are not attention heads
    count -= min(_number(own, "num_kv_shared_layers"), count)
    found = zip(range(count), _kinds(own, count), strict=False)
    return [CachedLayer(_values(_of_layer(own, at), at, window), window) for at, window in found if window is not None]


def _number(own: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = own.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0


def _numbers(own: Mapping[str, Any], name: str) -> list[int] | None:
    value = own.get(name)
    return value if isinstance(value, list) and all(type(each) is int for each in value) else None


def _of_layer(own: Mapping[str, Any], at: int) -> Mapping[str, Any]:
    """The config for one layer, if layers differ."""
    differing = own.get("per_layer_config")
    other = differing.get(str(at)) if isinstance(differing, Mapping) else None
    return {**own, **other} if isinstance(other, Mapping) else own


def _listing(own: Mapping[str, Any]) -> list[Any]:
    """The kinds of the layers, if they are listed one by one or as a repeating pattern."""
    return next((own[name] for name in _LISTS if isinstance(own.get(name), list)), [])


def _kinds(own: Mapping[str, Any], count: int) -> Iterator[int | None]:
    """For each layer its window, 0 for the whole text, None if it keeps no keys."""
    window = _window(own)
    if listed := _listing(own):
        for at in range(count):
            yield _listed(str(listed[at % len(listed)]), window)
        return
    attention = _attention(own, count)
    kind = str(own.get("model_type"))
    period = _number(own, "sliding_window_pattern", "_sliding_window_pattern") or _PERIODS.get(kind, 0)
    pattern = own.get("sliding_window_pattern")
    first = _number(own, "max_window_layers") if own.get("use_sliding_window") else 0
    for at in range(count):
        if at not in attention:
            yield None
        elif isinstance(pattern, str) and pattern:  # "LLLG"
            yield window if pattern[at % len(pattern)] == "L" else 0
        elif period:
            yield 0 if (at + 1) % period == 0 else window
        else:
            yield window if at >= first else 0


def _listed(kind: str, window: int) -> int | None:
    if any(part in kind for part in _IN_WINDOW):
        return window
    return None if any(part in kind for part in _NO_KEYS) else 0


def _window(own: Mapping[str, Any]) -> int:
    if own.get("use_sliding_window") is False:
        return 0
    return _number(own, "sliding_window", "attention_chunk_size", "attention_window_size")


def _attention(own: Mapping[str, Any], count: int) -> Sequence[int]:
    """The attention layers, if there are others between them and they are not listed by name."""
    if period := _number(own, "attn_layer_period"):
        offset = own.get("attn_layer_offset")
        return range(offset if isinstance(offset, int) and 0 <= offset < period else 0, count, period)
    interval = _number(own, "full_attention_interval") or _INTERVALS.get(str(own.get("model_type")), 0)
    if interval:
        return range(interval - 1, count, interval)
    for name in ("attn_layer_indices", "full_attn_idxs", "hybrid_layer_ids"):
        if (listed := _numbers(own, name)) is not None:
            return listed
    linear = own.get("linear_attn_config")
    if isinstance(linear, Mapping) and (listed := _numbers(linear, "full_attn_layers")) is not None:
        return [at - 1 for at in listed]  # counted from 1
    pattern = own.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        return [at for at, kind in enumerate(pattern) if kind == "*"]
    return range(count)


def _values(own: Mapping[str, Any], at: int, window: int) -> int:
    """Keys and values that one token adds to one layer."""
    heads = _number(own, *_HEADS)
    width = _number(own, *_HEAD_WIDTH) or _number(own, *_WIDTH) // max(heads, 1)
    if rank := _number(own, "kv_lora_rank"):  # keys and values of all heads, compressed into one
        return rank + _number(own, "qk_rope_head_dim")
    if not window and _number(own, "global_head_dim"):
        return (
            2
            * (_number(own, "num_global_key_value_heads") or _key_heads(own, at, heads))
            * _number(own, "global_head_dim")
        )
    return _key_heads(own, at, heads) * (width + (_number(own, "v_head_dim") or width))


def _key_heads(own: Mapping[str, Any], at: int, heads: int) -> int:
    for name in _KEY_HEADS:
        if (listed := _numbers(own, name)) and at < len(listed):
            return listed[at]
    if str(own.get("model_type")) in _ONE_HEAD:
        if own.get("new_decoder_architecture"):
            return heads  # Falcon's are copied to all heads before they are stored
        if own.get("multi_query", True):
            return 1
    return _number(own, *_KEY_HEADS) or heads
