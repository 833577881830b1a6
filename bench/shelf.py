"""A catalog of 500 models: the time to list it in a program that has just started, and later.

Each model is the demo model's header with its whole vocabulary; the weights are a sparse hole, because none are read.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from bench.figure import ROOT, Figure, Side, write
from modules.config.paths import Paths
from modules.library.demo_model import NAME
from modules.library.model_catalog import ModelCatalog

MODELS, ROUNDS = 500, 5
HEADER = 6_000_000  # bytes that contain the header with the vocabulary


def fill(folder: Path) -> None:
    """Files of the demo model's size; after the header they are sparse."""
    source = ROOT / "models" / NAME
    size = source.stat().st_size
    with source.open("rb") as file:
        head = file.read(HEADER)
    for number in range(MODELS):
        with (folder / f"model-{number}B.Q4_1.gguf").open("wb") as file:
            file.write(head)
            os.truncate(file.fileno(), size)


def milliseconds(shelf: ModelCatalog) -> float:
    start = time.perf_counter()
    items = shelf.items()
    took = (time.perf_counter() - start) * 1000
    assert len(items) == MODELS
    assert not any(item.problem for item in items)
    return took


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        paths = Paths.under(Path(root))
        paths.ensure()
        fill(paths.models)
        cold, warm = [], []
        for _ in range(ROUNDS):
            shelf = ModelCatalog(paths)
            cold.append(milliseconds(shelf))
            warm.append(milliseconds(shelf))
    write(
        "shelf",
        [
            Figure(f"{MODELS} models", "the first time", "ms", Side("cold", cold), Side("allowed", [1000.0]), 1.0,
                   at_most=True),
            Figure(f"{MODELS} models", "later", "ms", Side("warm", warm), Side("allowed", [100.0]), 1.0, at_most=True),
        ],
        "The files are in the system's cache; nothing of a catalog is kept from one start to the next.",
    )  # fmt: skip
