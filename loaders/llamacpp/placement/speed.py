"""Estimates the speed of replies in tokens per second: the bytes read per token divided by each device's memory
bandwidth, corrected by earlier replies. Pure, except for `measure_memory_bandwidth`.

It must not know llama.cpp's library (devices.py measures GPUs), or where values are stored (measurements.py).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from loaders.llamacpp.gguf import GGUFHeader, GGUFTensor
from loaders.llamacpp.placement.placement import MEMORY, MemoryByDevice, Placement

#: The depth of the estimate, in tokens: a chat of some turns.
DEPTH = 1000
_READ, _LEAST = 2**28, 2**25  # bytes that all threads read per round, and the minimum for each: more than caches hold
_ROUNDS = 3
_EXPERTS = re.compile(r"ffn_(?:up|down|gate|gate_up)_(?:ch)?exps")


@dataclass(frozen=True)
class BytesPerToken:
    """Bytes read per token on each device, by its name."""

    by_device: Mapping[str, int]

    def seconds(self, bandwidths: Mapping[str, float]) -> float:
        """At these bandwidths; 0 if one of them is unknown."""
        if any(not bandwidths.get(name) for name, size in self.by_device.items() if size):
            return 0.0
        return sum(size / bandwidths[name] for name, size in self.by_device.items() if size)


def bytes_per_token(header: GGUFHeader, placement: Placement, sizes: MemoryByDevice, n_ctx: int) -> BytesPerToken:
    """The bytes read per token: all weights except the embeddings (one row) and inactive experts, and the filled part
    of the cache. `sizes`: what each device holds, by which GPUs are weighted.
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
    return BytesPerToken({MEMORY: round(kept + cache * filled), **found})


def _share(header: GGUFHeader, tensor: GGUFTensor, tied: bool) -> float:
    """The part of a tensor that one token reads."""
    if tensor.name == "token_embd.weight":
        return 1.0 if tied else 0.0
    if _EXPERTS.search(tensor.name):
        experts = int(header.get("expert_count", 0))
        return min(int(header.get("expert_used_count", 0)) / experts, 1.0) if experts else 1.0
    return 1.0


def _on_card(tensor: GGUFTensor, first: int, experts: int) -> bool:
    """As llama.cpp splits them: the output layer (or tied embeddings, copied for it), then the last blocks."""
    part = tensor.name.split(".")
    if part[0] != "blk":
        return True
    number = int(part[1]) if part[1].isdecimal() else 0
    return number >= first and not (number < experts and _EXPERTS.search(tensor.name))


def describe_speed(
    found: BytesPerToken, bandwidths: Mapping[str, float], ratio: float | None, called: Mapping[str, str]
) -> str:
    """The estimated tokens per second, and why; "" if unknown. `ratio`: the factor by which earlier replies took longer
    than by the bandwidths, None if there were none. `called`: the titles of the devices.
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
        return f"at most about {told} tokens/s: {why} (measured bandwidth; no reply has been measured yet)"
    return f"about {told} tokens/s: {why} (corrected by the speed of earlier replies)"


def measure_memory_bandwidth(threads: int) -> float:
    """Bytes per second that this many threads read from main memory: the best of several rounds."""

    def read(array: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
        array.max()  # NumPy releases Python's lock meanwhile

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
