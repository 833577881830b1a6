"""What a GGUF takes in memory, device by device: as llama.cpp says, else from its header alone.

Sizes in bytes. For refusing what cannot work, and for the bars of the Model tab; it must not know of the engine.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from errors import NotEnoughMemory
from loaders.forecast import DeviceForecast, in_words
from loaders.forecast import Forecast as ByDevice
from loaders.llamacpp import fit
from loaders.llamacpp.gguf import GGUFHeader, Tensor
from loaders.llamacpp.options import GGUFOptions
from loaders.llamacpp.placement import MEMORY, BySize, Card, Placement, Sizes, titles

if TYPE_CHECKING:
    from loaders.llamacpp.planning import Placed

#: Bytes per value of the KV cache types (ggml blocks of 32 values, with their scale).
CACHE_BYTES: Mapping[str, float] = {
    "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32, "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}  # fmt: skip

#: What llama.cpp takes beside weights and cache: compute buffers, output rows, the vocabulary.
OVERHEAD = 150_000_000
#: Types of which llama.cpp makes a copy for the CPU (ggml-cpu/repack.cpp), and the processors on which it does.
_REARRANGED = ("Q4_0", "Q4_K", "IQ4_NL")
_REARRANGING = ("x86_64", "amd64", "arm64", "aarch64")


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes by part, by the header."""

    weights: int
    cache: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + OVERHEAD


def estimate(header: GGUFHeader, cells: int, keys: str, values: str) -> Estimate:
    """What the model takes with a context of `cells` tokens, whose cache keeps keys and values in these types.

    Raises: TypeError, ValueError, OverflowError, where the header makes no sense.
    """
    n_keys, n_values = _cache_values_per_token(header)
    cache = int(cells * (n_keys * CACHE_BYTES[keys] + n_values * CACHE_BYTES[values]))
    return Estimate(sum(tensor.size for tensor in header.tensors), cache)


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
    header: GGUFHeader, found: Estimate, available: int, n_ctx: int, sizes: BySize | None, placement: Placement
) -> None:
    """`available`: free bytes of main memory. Raises: NotEnoughMemory, with what would help."""
    held = sizes[MEMORY] if sizes and MEMORY in sizes else by_header(header, found, placement)[0]
    if held.total <= available:
        return
    if held.total - held.cache < available and not placement.layers:
        advice = f"Of that, the context of {n_ctx:,} tokens takes {held.cache / 1e9:.1f} GB: lower n_ctx or cache_type."
    else:
        advice = "Choose a smaller model or a stronger quantization, or close other programs."
    raise NotEnoughMemory(header.path.name, held.total, available, advice)


def layers_that_fit(header: GGUFHeader, found: Estimate, room: int, cache_on_cpu: bool = False) -> int:
    """How many layers go to a card with `room` bytes for them, by the header."""
    for layers in range(header.n_layers + 1, 0, -1):
        if by_header(header, found, Placement(layers, cards=("",)), cache_on_cpu)[1].total <= room:
            return layers
    return 0


def by_device(
    header: GGUFHeader, found: Estimate, place: Placed, reason: str, available: int, options: GGUFOptions
) -> ByDevice:
    """What goes to the machine's memory, with `available` free bytes, and what to each card that is used.

    With no_mmap off the file itself is in memory, beside what llama.cpp rearranges of it for the CPU. An integrated
    card's memory is the machine's: what goes to it, the machine has no more.
    """
    sizes = place.sizes
    called = titles(place.cards)
    used = [card for card in place.cards if card.name in place.placement.cards]
    if sizes is None:
        memory, moved = by_header(header, found, place.placement, options.no_offload_kqv)
        cards = [Card("+".join(card.name for card in used), sum(card.free for card in used), 0)] if used else []
        called = {card.name: f"{len(used)} cards" if len(used) > 1 else called[card.name] for card in cards}
        sizes = {MEMORY: memory, **{card.name: moved for card in cards}}
        margins = {card.name: sum(place.margins.values()) for card in cards}
    else:
        cards, margins = used, dict(place.margins)
    held = sizes.get(MEMORY, Sizes())
    shared = sum(sizes[card.name].total for card in cards if card.integrated and card.name in sizes)
    mapped = 0 if options.no_mmap else held.rearranged
    weights, left = held.weights + mapped, max(available - shared, 0)
    devices = [DeviceForecast(MEMORY, weights, held.cache, held.buffers, left, spare=0 if options.mlock else mapped)]
    for card in cards:
        size = sizes.get(card.name, Sizes())
        free = fit.room(card, max(available - held.total, 0))
        devices.append(
            DeviceForecast(called[card.name], size.weights, size.cache, size.buffers, free, margins.get(card.name, 0))
        )
    return ByDevice(tuple(devices), in_words(tuple(devices), reason))


def by_header(
    header: GGUFHeader, found: Estimate, placement: Placement, cache_on_cpu: bool = False
) -> tuple[Sizes, Sizes]:
    """By the header alone: what stays in memory, and what goes to the cards together.

    As llama.cpp splits them: the output layer goes first, then the last blocks; the token embedding stays, and is
    copied where it is the output layer, too.
    """
    layers = placement.layers if placement.cards else 0
    first = max(header.n_layers + 1 - layers, 0)
    moved = [tensor for tensor in header.tensors if layers and _goes(tensor, first, placement.experts)]
    names = {tensor.name for tensor in moved}
    tied = not any(tensor.name == "output.weight" for tensor in header.tensors)
    embeddings = sum(tensor.size for tensor in header.tensors if tensor.name == "token_embd.weight")
    copied = embeddings if layers and tied else 0
    share = 0.0 if cache_on_cpu or not header.n_layers else max(header.n_layers - first, 0) / header.n_layers
    on_card, cache = sum(tensor.size for tensor in moved), round(found.cache * share)
    rearranged = sum(tensor.size for tensor in header.tensors if tensor.name not in names and _is_rearranged(tensor))
    buffers = OVERHEAD if layers else 0
    return (
        Sizes(found.weights - on_card, found.cache - cache, OVERHEAD, rearranged),
        Sizes(on_card + copied, cache, buffers),
    )


def _is_rearranged(tensor: Tensor) -> bool:
    """Whether llama.cpp keeps a copy of these weights in the order in which this CPU multiplies (ggml's repack)."""
    matrix = len(tensor.shape) == 2 and tensor.name != "token_embd.weight"
    return matrix and tensor.type in _REARRANGED and platform.machine().lower() in _REARRANGING


def _goes(tensor: Tensor, first: int, experts: int) -> bool:
    name, _, rest = tensor.name.partition(".")
    if name != "blk":
        return name.startswith("output")
    number = rest.partition(".")[0]
    if not number.isdecimal() or int(number) < first:
        return False
    return int(number) >= experts or "exps" not in rest
