"""A GGUF's memory per device: as llama.cpp reports it, else by its header only.

Sizes in bytes. Used to refuse loads that cannot work, and for the bars in the Model tab; it must not know of the
engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from errors import NotEnoughMemory
from loaders.forecast import DeviceForecast, describe_forecast
from loaders.forecast import Forecast as ByDevice
from loaders.llamacpp.gguf import GGUFHeader
from loaders.llamacpp.options import GGUFOptions
from loaders.llamacpp.placement import header_sizes, search
from loaders.llamacpp.placement.placement import MEMORY, DeviceMemory, MemoryByDevice, Placement, gpu_titles

if TYPE_CHECKING:
    from loaders.llamacpp.placement.planning import PlannedPlacement

#: Bytes per value of the KV cache types (ggml blocks of 32 values, with their scale).
CACHE_BYTES: Mapping[str, float] = {
    "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32, "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes by part, from the header."""

    weights: int
    cache: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + header_sizes.OVERHEAD


def estimate_memory(header: GGUFHeader, cells: int, keys: str, values: str) -> MemoryEstimate:
    """The model's memory with a context of `cells` tokens, whose cache stores keys and values in these types.

    Raises: TypeError, ValueError, OverflowError if the header is invalid.
    """
    n_keys, n_values = _cache_values_per_token(header)
    cache = int(cells * (n_keys * CACHE_BYTES[keys] + n_values * CACHE_BYTES[values]))
    return MemoryEstimate(sum(tensor.size for tensor in header.tensors), cache)


def _cache_values_per_token(header: GGUFHeader) -> tuple[int, int]:
    """Keys and values that one token adds to the cache, over all layers."""
    heads = header.get("attention.head_count", 0)
    kv_heads = header.get("attention.head_count_kv", heads)
    n_heads = max(heads) if isinstance(heads, list) else heads
    width = int(header.get("embedding_length", 0)) // max(n_heads, 1)
    kv_heads_of_all = int(sum(kv_heads) if isinstance(kv_heads, list) else kv_heads * header.n_layers)
    keys = int(header.get("attention.key_length", width))
    return kv_heads_of_all * keys, kv_heads_of_all * int(header.get("attention.value_length", width))


def refuse_if_too_big(
    header: GGUFHeader,
    found: MemoryEstimate,
    available: int,
    n_ctx: int,
    sizes: MemoryByDevice | None,
    placement: Placement,
) -> None:
    """`available`: free bytes of main memory. Raises: NotEnoughMemory, with suggestions."""
    held = sizes[MEMORY] if sizes and MEMORY in sizes else estimate_placement(header, found, placement)[MEMORY]
    if held.total <= available:
        return
    beside = held.total - held.weights
    if held.weights < available and beside > held.weights:  # buffers grow with the context, too
        advice = f"The context of {n_ctx:,} tokens takes {beside / 1e9:.1f} GB of that: lower n_ctx or cache_type."
    else:
        advice = "Use a smaller model or a stronger quantization, or close other programs."
    raise NotEnoughMemory(header.path.name, held.total, available, advice)


def forecast_devices(
    header: GGUFHeader,
    found: MemoryEstimate,
    place: PlannedPlacement,
    reason: str,
    available: int,
    options: GGUFOptions,
    kept: int = 0,
) -> ByDevice:
    """What goes to main memory, with `available` free bytes, and to each GPU that is used. `kept`: additional main
    memory that loads usually take.

    With no_mmap off, the file itself is in memory, next to what llama.cpp rearranges of it for the CPU. An integrated
    GPU's memory is the machine's: what goes to it is taken from main memory.
    """
    sizes = place.sizes
    called = gpu_titles(place.cards)
    used = [card for card in place.cards if card.name in place.placement.cards]
    if sizes is None:
        sizes = header_sizes.measure_by_header(
            header, found.weights, found.cache, used, cache_on_cpu=options.no_offload_kqv
        )(place.placement)
    held = sizes.get(MEMORY, DeviceMemory())
    shared = sum(sizes[card.name].total for card in used if card.integrated and card.name in sizes)
    mapped = 0 if options.no_mmap else held.rearranged
    weights, left = held.weights + mapped, max(available - shared, 0)
    spare = 0 if options.mlock else mapped
    devices = [DeviceForecast(MEMORY, weights, held.cache, held.buffers, left, kept, spare)]
    for card in used:
        size = sizes.get(card.name, DeviceMemory())
        free = search.usable_bytes(card, max(available - held.total, 0))
        kept_free = place.margins.get(card.name, 0)
        devices.append(DeviceForecast(called[card.name], size.weights, size.cache, size.buffers, free, kept_free))
    whole = place.placement.layers > header.n_layers and not (place.placement.experts and header.n_expert_blocks)
    return ByDevice(tuple(devices), describe_forecast(tuple(devices), reason), whole)


def estimate_placement(
    header: GGUFHeader, found: MemoryEstimate, placement: Placement, cache_on_cpu: bool = False
) -> MemoryByDevice:
    """By the header only; without shares, all GPUs get about the same."""
    return header_sizes.measure_by_header(header, found.weights, found.cache, cache_on_cpu=cache_on_cpu)(placement)
