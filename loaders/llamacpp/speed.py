"""How many tokens a second a reply is to come at: the bytes that each of its tokens reads, over how fast each device
reads its memory, corrected by how long replies took before. Pure but for `memory_bandwidth`, which measures.

It must not know llama.cpp's library (devices.py measures cards), nor where figures are kept (measured.py).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from loaders.llamacpp.gguf import GGUFHeader, Tensor
from loaders.llamacpp.placement import MEMORY, BySize, Placement

#: The depth for which it is reckoned, in tokens: a chat of some turns.
DEPTH = 1000
_READ, _LEAST = 2**28, 2**25  # bytes that all threads read in a round, and each at least: more than caches hold
_ROUNDS = 3
_EXPERTS = re.compile(r"ffn_(?:up|down|gate|gate_up)_(?:ch)?exps")


@dataclass(frozen=True)
class Reading:
    """Bytes that one token reads on each device, by its name."""

    by_device: Mapping[str, int]

    def seconds(self, bandwidths: Mapping[str, float]) -> float:
        """At these bytes a second; 0 where one of them is not known."""
        if any(not bandwidths.get(name) for name, size in self.by_device.items() if size):
            return 0.0
        return sum(size / bandwidths[name] for name, size in self.by_device.items() if size)


def reading(header: GGUFHeader, placement: Placement, sizes: BySize, n_ctx: int) -> Reading:
    """What a token reads: all weights but the embeddings' (one row) and the experts that do not work, and as much of
    the cache as is filled. `sizes`: what each device holds, by which the cards share what they read.
    """
    cards = placement.cards if placement.layers else ()
    first = max(header.n_layers + 1 - placement.layers, 0) if cards else header.n_layers + 1
    tied = all(tensor.name != "output.weight" for tensor in header.tensors)
    kept = moved = 0.0
    for tensor in header.tensors:
        size = tensor.size * _share(header, tensor, tied)
        if cards and _on_card(tensor, first, placement.experts):
            moved += size
        else:
            kept += size
    held = {name: sizes[name] for name in cards if name in sizes}
    weights = sum(size.weights for size in held.values()) or 1
    filled = min(DEPTH / n_ctx, 1.0)
    found = {name: round(moved * size.weights / weights + size.cache * filled) for name, size in held.items()}
    cache = sizes[MEMORY].cache if MEMORY in sizes else 0
    return Reading({MEMORY: round(kept + cache * filled), **found})


def _share(header: GGUFHeader, tensor: Tensor, tied: bool) -> float:
    """The part of a tensor that one token reads."""
    if tensor.name == "token_embd.weight":
        return 1.0 if tied else 0.0
    if _EXPERTS.search(tensor.name):
        experts = int(header.get("expert_count", 0))
        return min(int(header.get("expert_used_count", 0)) / experts, 1.0) if experts else 1.0
    return 1.0


def _on_card(tensor: Tensor, first: int, experts: int) -> bool:
    """As llama.cpp shares them out: the output layer (or tied embeddings, copied for it), then the last blocks."""
    part = tensor.name.split(".")
    if part[0] != "blk":
        return True
    number = int(part[1]) if part[1].isdecimal() else 0
    return number >= first and not (number < experts and _EXPERTS.search(tensor.name))


def in_words(found: Reading, bandwidths: Mapping[str, float], ratio: float | None, called: Mapping[str, str]) -> str:
    """The tokens a second to expect, and why; "" where they are not known. `ratio`: how many times as long as by the
    bandwidths replies took before, None where there were none. `called`: what people call the devices.
    """
    seconds = found.seconds(bandwidths)
    if not seconds:
        return ""
    parts = [
        f"{size / 1e9:.2f} GB from {called.get(name, name)} at {bandwidths[name] / 1e9:.0f} GB/s"
        for name, size in found.by_device.items()
        if size > 0
    ]
    pace = 1 / (seconds * (ratio or 1.0))
    told = f"{pace:.0f}" if pace >= 10 else f"{pace:.1f}"
    why = f"each token reads {' and '.join(parts)}"
    if ratio is None:
        return f"at most about {told} tokens/s: {why}, as measured here; no reply has been measured yet"
    return f"about {told} tokens/s: {why}, corrected by how long earlier replies took"


def memory_bandwidth(threads: int) -> float:
    """Bytes a second that so many threads read from the machine's memory: the best of some rounds."""

    def read(array: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
        array.max()  # NumPy lets go of the interpreter meanwhile

    size = max(_READ // threads, _LEAST)
    arrays: Sequence[np.ndarray[tuple[int], np.dtype[np.float32]]] = [
        np.ones(size // 4, np.float32) for _ in range(threads)
    ]
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_ROUNDS):
            started = time.perf_counter()
            list(pool.map(read, arrays))
            best = max(best, threads * size / (time.perf_counter() - started))
    return best
