"""The README's table of models by GPU memory, from llama.cpp's own dry runs on the headers of ten families.

tests/zoo/families.json has, for each family at 4 bits with a context of 8,192, the memory on one GPU and in main memory
for each number of layers and of expert layers in main memory (tests.zoo.family_sizes writes it). No GPU was used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FAMILIES = Path(__file__).resolve().parents[1] / "tests" / "zoo" / "families.json"
SIZES = (4, 6, 8, 12, 16, 24)  # GiB
RESERVE = 1.0  # GB that the system and its desktop keep


def on_gpu(taken: list[int]) -> float:
    """GB on the GPU: weights, context and buffers are the last three numbers of a placement."""
    return sum(taken[-3:]) / 1e9


def models_table() -> str:
    """One row for each size of GPU: what fits on it as a whole, and what fits with experts in main memory."""
    families: Mapping[str, Any] = json.loads(FAMILIES.read_text("utf-8"))
    lines = [
        "| GPU | the whole model fits | fits with its experts in main memory (GB of it) |",
        "| --- | --- | --- |",
    ]
    seen: set[str] = set()
    for size in SIZES:
        room = size * 2**30 / 1e9 - RESERVE
        whole, split = [], []
        for name, ((layers, experts), placements) in families.items():
            if on_gpu(placements[f"{layers + 1}/0"]) <= room:
                whole += [name] if name not in seen else []
                seen.add(name)
                continue
            fewest = next((n for n in range(1, experts + 1) if on_gpu(placements[f"{layers + 1}/{n}"]) <= room), None)
            if fewest is not None:
                split.append(f"{name} ({sum(placements[f'{layers + 1}/{fewest}'][:3]) / 1e9:.0f})")
        more = "" if not seen - set(whole) else "also " if whole else "the same"
        fits = ", ".join(whole) or ("" if more else "none of these: up to 3B")
        lines.append(f"| {size} GB | {more}{fits} | {', '.join(split)} |")
    return "\n".join(lines) + "\n"
