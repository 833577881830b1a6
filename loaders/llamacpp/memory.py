"""What a GGUF will take in memory, from its header alone, and how many of its layers fit on a GPU.

Sizes in bytes. An estimate for refusing what cannot work and for choosing a split; it must not know of the engine.
"""

from __future__ import annotations

from dataclasses import dataclass

from errors import NotEnoughMemory
from loaders.llamacpp.gguf import GGUFHeader

#: Bytes per value of the KV cache types (ggml blocks of 32 values, with their scale).
CACHE_BYTES = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}

#: What llama.cpp takes beside weights and cache: compute buffers, output rows, the vocabulary.
_OVERHEAD = 150_000_000
#: Kept free on a GPU for the desktop and for what grows while it runs.
_GPU_MARGIN = 600_000_000


@dataclass(frozen=True, slots=True)
class Forecast:
    """Bytes by part, and what one layer takes of weights and cache together."""

    weights: int
    cache: int
    overhead: int
    per_layer: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.overhead


def forecast(header: GGUFHeader, n_ctx: int, cache_type: str) -> Forecast:
    """What the model takes with a context of `n_ctx` tokens."""
    weights = sum(tensor.size for tensor in header.tensors)
    cache = int(n_ctx * _cache_values_per_token(header) * CACHE_BYTES[cache_type])
    layers = max(header.n_layers, 1)
    in_layers = sum(tensor.size for tensor in header.tensors if tensor.name.startswith("blk."))
    return Forecast(weights, cache, _OVERHEAD, (in_layers + cache) // layers)


def _cache_values_per_token(header: GGUFHeader) -> int:
    """Keys and values that one token adds to the cache, over all layers."""
    heads = header.get("attention.head_count", 0)
    kv_heads = header.get("attention.head_count_kv", heads)
    n_heads = max(heads) if isinstance(heads, list) else heads
    width = int(header.get("embedding_length", 0)) // max(n_heads, 1)
    per_head = int(header.get("attention.key_length", width)) + int(header.get("attention.value_length", width))
    kv_heads_of_all = sum(kv_heads) if isinstance(kv_heads, list) else kv_heads * header.n_layers
    return int(kv_heads_of_all * per_head)


def refuse_if_too_big(header: GGUFHeader, plan: Forecast, available: int, n_ctx: int) -> None:
    """Raises: NotEnoughMemory, with what would help."""
    if plan.total <= available:
        return
    if plan.weights + plan.overhead < available:
        advice = f"Of that, the context of {n_ctx:,} tokens takes {plan.cache / 1e9:.1f} GB: lower n_ctx or cache_type."
    else:
        advice = "Choose a smaller model or a stronger quantization, or close other programs."
    raise NotEnoughMemory(header.path.name, plan.total, available, advice)


def layers_that_fit(header: GGUFHeader, plan: Forecast, free: int) -> tuple[int, str]:
    """How many layers go to a GPU with `free` bytes, and the reason in words."""
    layers = header.n_layers + 1  # the output layer counts, as llama.cpp counts it
    room = free - _GPU_MARGIN - _OVERHEAD
    fitting = max(0, min(layers, room // max(plan.per_layer, 1)))
    taken = fitting * plan.per_layer + (_OVERHEAD if fitting else 0)
    return fitting, f"{fitting} of {layers} layers on the GPU: {taken / 1e9:.1f} of {free / 1e9:.1f} GB free"
