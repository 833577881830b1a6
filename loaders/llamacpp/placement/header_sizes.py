"""The memory of a GGUF's placement on each device by its header only: in milliseconds, and without llama.cpp.

For the badges of many files, and if llama.cpp reports no breakdown. Sizes in bytes. It must not know how a placement is
chosen, or of the engine.
"""

from __future__ import annotations

import itertools
import platform
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loaders.gpus import Gpu
from loaders.llamacpp.gguf import GGUFHeader, GGUFTensor
from loaders.llamacpp.placement.placement import MEMORY, DeviceMemory, MemoryByDevice, Placement

#: llama.cpp's memory besides weights and cache on a device that computes: buffers, output rows, the vocabulary.
OVERHEAD = 150_000_000
#: Types that llama.cpp copies for the CPU (ggml-cpu/repack.cpp), and the processors on which it does.
_REARRANGED = ("Q4_0", "Q4_K", "IQ4_NL")
_REARRANGING = ("x86_64", "amd64", "arm64", "aarch64")


@dataclass(slots=True)
class _Part:
    """Weights that move together. `copied`: the part that is rearranged if the CPU computes them."""

    size: int = 0
    copied: int = 0

    def add(self, tensor: GGUFTensor) -> None:
        self.size += tensor.size
        self.copied += tensor.size if _is_rearranged(tensor) else 0


def measure_by_header(
    header: GGUFHeader, weights: int, cache: int, cards: Sequence[Gpu] = (), *, cache_on_cpu: bool = False
) -> Callable[[Placement], MemoryByDevice]:
    """Returns a function for the memory of a placement, for a model with these bytes of weights and cache.

    As llama.cpp splits them: the output layer goes first, then the last blocks; the token embedding stays, and is
    copied if it is the output layer, too. `cards`: if the placement has no shares, layers are split by their free
    memory.
    """
    rest, output, experts = _Part(), _Part(), [_Part() for _ in range(header.n_layers)]
    blocks = [_Part() for _ in range(header.n_layers)]
    embeddings, tied = 0, True
    for tensor in header.tensors:
        name, _, behind = tensor.name.partition(".")
        number = behind.partition(".")[0]
        if name == "blk" and number.isdecimal() and int(number) < header.n_layers:
            (experts if "exps" in behind else blocks)[int(number)].add(tensor)
        elif name.startswith("output"):
            output.add(tensor)
        else:
            rest.add(tensor)
        tied = tied and tensor.name != "output.weight"
        embeddings += tensor.size if tensor.name == "token_embd.weight" else 0
    copied_output = embeddings if tied else 0
    of_block = 0.0 if cache_on_cpu or not header.n_layers else cache / header.n_layers
    free = {card.name: max(card.free, 1) for card in cards}

    def taken(placement: Placement) -> MemoryByDevice:
        layers = min(placement.layers, header.n_layers + 1) if placement.cards else 0
        first = header.n_layers + 1 - layers
        held = [DeviceMemory() for _ in placement.cards]
        on_card, rearranged, caches = 0, sum(part.copied for part in (rest, output, *blocks, *experts)), 0
        bounds = _bounds(placement, free)
        for at in range(layers):
            number = min(bisect_right(bounds, at / layers), len(held) - 1)
            block = first + at
            if block == header.n_layers:
                parts, kept, more = [output], 0, copied_output
            else:
                parts = [blocks[block], *([experts[block]] if block >= placement.experts else [])]
                kept, more = round(of_block * (block + 1)) - round(of_block * block), 0
            size = sum(part.size for part in parts)
            before = held[number]
            held[number] = DeviceMemory(before.weights + size + more, before.cache + kept, OVERHEAD)
            on_card, caches = on_card + size, caches + kept
            rearranged -= sum(part.copied for part in parts)
        machine = DeviceMemory(weights - on_card, cache - caches, OVERHEAD, rearranged)
        return {MEMORY: machine, **dict(zip(placement.cards, held, strict=True))}

    return taken


def _bounds(placement: Placement, free: dict[str, int]) -> list[float]:
    """Where each GPU's part of the layers ends, from 0 to 1: llama.cpp takes the first GPU whose end is greater."""
    shares = placement.split or tuple(float(free.get(name, 1)) for name in placement.cards)
    whole = sum(shares)
    return [end / whole for end in itertools.accumulate(shares)] if whole else []


def _is_rearranged(tensor: GGUFTensor) -> bool:
    """Whether llama.cpp keeps a copy of these weights in the order in which this CPU multiplies (ggml's repack)."""
    matrix = len(tensor.shape) == 2 and tensor.name != "token_embd.weight"
    return matrix and tensor.type in _REARRANGED and platform.machine().lower() in _REARRANGING
