"""The choice of layers and experts on real model shapes: the results of `python -m tests.zoo.family_sizes`, and whether
llama.cpp still computes the same.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from loaders.gpus import Gpu
from loaders.llamacpp.placement import search
from loaders.llamacpp.placement.placement import MEMORY, MemoryByDevice, Placement
from tests.loaders.llamacpp import rpc_cards
from tests.loaders.llamacpp.rpc_cards import Cards
from tests.zoo import families, family_sizes
from tests.zoo.family_sizes import GB, key, over, ways

CASES = 200
#: Families with the placements for which llama.cpp is asked again.
AGAIN = {"Llama 3.1 8B": (20, 0), "gpt-oss 20B": (25, 7), "Granite 4 H Small": (17, 40), "GLM 4.5 Air": (47, 45)}


def cases() -> Iterator[tuple[str, search.ModelShape, Mapping[str, MemoryByDevice], list[Gpu]]]:
    """Every family in turn, on a GPU of 4 to 24 GB."""
    chance, written = random.Random(21), family_sizes.read()
    assert list(written) == list(families.FAMILIES)
    for number in range(CASES):
        name = list(written)[number % len(written)]
        free = round(chance.uniform(4, 24) * GB)
        yield name, *written[name], [Gpu("C0", free, free)]


def rank(placement: Placement) -> tuple[int, int]:
    return placement.layers, -placement.experts


def test_auto_is_the_best_of_all_placements_and_never_over_the_limit() -> None:
    kinds = set()
    for name, shape, sizes, cards in cases():
        asked: list[Placement] = []

        def measure(
            placement: Placement, sizes: Mapping[str, MemoryByDevice] = sizes, asked: list[Placement] = asked
        ) -> MemoryByDevice:
            asked.append(placement)
            return {each: size for each, size in sizes[key(placement)].items() if size.total}

        found, taken = search.find_best_placement(search.PlacementRequest(), shape, cards, 10**12, measure)
        assert not found.layers or over(taken, cards) <= 0, (name, cards, found)
        fitting = (way for way in ways(shape) if over(sizes[key(way)], cards) <= 0)
        best = next(fitting, Placement())
        assert rank(found) == rank(best), (name, cards, found, best)
        assert len(asked) <= 16
        whole = found.layers == shape.blocks + 1
        kinds.add(("all" if whole else "some" if found.layers else "none", bool(found.experts)))
    assert {("all", False), ("all", True), ("some", False)} <= kinds


@pytest.fixture(scope="module")
def card() -> Iterator[Cards]:
    cards = Cards(1)
    yield cards
    cards.close()


@pytest.mark.skipif(not rpc_cards.has_rpc(), reason="this llama.cpp was built without RPC")
@pytest.mark.parametrize("name", AGAIN)
def test_llama_cpp_still_says_what_was_written(card: Cards, name: str, tmp_path: Path) -> None:
    layers, experts = AGAIN[name]
    _, written = family_sizes.read()[name]
    found = card.call(again, name, tmp_path, Placement(layers, experts, ("C0",)))
    for device in (MEMORY, "C0"):
        assert abs(found[device].total - written[f"{layers}/{experts}"][device].total) < 2**20


def again(name: str, folder: Path, placement: Placement) -> MemoryByDevice:
    _, measure = family_sizes.asker(families.write(families.FAMILIES[name], folder / "model.gguf"))
    found: MemoryByDevice = measure(placement)
    return found
