"""The search for layers, experts and shares, compared with all possible placements."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from errors import InvalidInput
from loaders.gpus import Gpu
from loaders.llamacpp.placement import search
from loaders.llamacpp.placement.placement import MEMORY, DeviceMemory, MemoryByDevice, Placement
from loaders.llamacpp.placement.search import ModelShape, PlacementRequest

GB = 10**9


@dataclass
class Made:
    """A simulated model: bytes of each block without experts, of its experts and of its cache, and of the output."""

    block: int
    experts: int
    cache: int
    output: int
    buffers: int
    shape: ModelShape
    asked: int = 0

    def measure(self, placement: Placement) -> MemoryByDevice:
        """As llama.cpp splits it: by layer, to the GPU in whose share it is."""
        self.asked += 1
        blocks, layers = self.shape.blocks, placement.layers
        assert bool(placement.cards) == bool(layers)
        held = {name: [0, 0] for name in (MEMORY, *placement.cards)}
        shares = [*placement.split, *[0.0] * len(placement.cards)][: len(placement.cards)] or [1.0] * len(
            placement.cards
        )
        if not placement.split:
            shares = [1.0] * len(placement.cards)
        ends = [sum(shares[: i + 1]) / sum(shares) for i in range(len(shares))] if layers else []
        first = blocks + 1 - layers
        for number in range(blocks + 1):
            at = (number - first) / layers if layers else 0
            name = (
                MEMORY if number < first else next(n for n, end in zip(placement.cards, ends, strict=True) if at < end)
            )
            held[name][0] += self.output if number == blocks else self.block
            held[name][1] += 0 if number == blocks else self.cache
            if number < self.shape.experts:
                held[MEMORY if number < placement.experts else name][0] += self.experts
        return {  # a device with more layers, or the output layer, needs somewhat larger buffers
            name: DeviceMemory(weights, cache, self.buffers + weights // 50 if name == MEMORY or weights else 0)
            for name, (weights, cache) in held.items()
        }


def card(name: str, free: float, *, integrated: bool = False) -> Gpu:
    return Gpu(name, int(free), int(free), integrated=integrated)


def made(numbers: random.Random) -> Made:
    experts = numbers.random() < 0.5
    blocks = numbers.randint(1, 80)
    return Made(
        numbers.randint(10**6, 300 * 10**6),
        numbers.randint(10**7, 10**9) if experts else 0,
        numbers.randint(0, 100 * 10**6),
        numbers.randint(10**7, 2 * GB),
        numbers.randint(10**7, GB),
        ModelShape(blocks, blocks if experts else 0),
    )


def over(found: MemoryByDevice, cards: Sequence[Gpu]) -> int:
    margins = search.safety_margins(PlacementRequest(), cards)
    return max(
        (found[each.name].total + margins[each.name] - each.free for each in cards if each.name in found), default=0
    )


def on_cards(placement: Placement) -> tuple[int, int]:
    return placement.layers, -placement.experts


def test_one_card_gets_the_best_that_there_is() -> None:
    """200 simulated models on GPUs of 4 to 24 GB, compared with all placements."""
    numbers = random.Random(21)
    for _ in range(200):
        model, cards = made(numbers), [card("C0", numbers.uniform(4, 24) * GB)]
        found, sizes = search.find_best_placement(PlacementRequest(), model.shape, cards, 10**12, model.measure)
        assert not found.layers or over(sizes, cards) <= 0
        assert model.asked <= 16
        everything = model.shape.blocks + 1
        ways = [Placement(everything, experts, ("C0",)) for experts in range(model.shape.experts + 1)]
        ways += [Placement(layers, model.shape.experts, ("C0",)) for layers in range(1, everything)]
        best = max((way for way in ways if over(model.measure(way), cards) <= 0), key=on_cards, default=Placement())
        assert on_cards(found) == on_cards(best)


@pytest.mark.parametrize("seed", range(4))
def test_two_cards_are_never_over_the_limit_and_get_the_best_that_there_is(seed: int) -> None:
    """No more layers fit, nor, with all layers on GPUs, the experts of more, with any split."""
    numbers = random.Random(seed)
    seen = set()
    for _ in range(50):
        model = made(numbers)
        cards = [card("C0", numbers.uniform(2, 24) * GB), card("C1", numbers.uniform(2, 24) * GB)]
        found, sizes = search.find_best_placement(PlacementRequest(), model.shape, cards, 10**12, model.measure)
        if found.layers:
            assert over(sizes, cards) <= 0
        assert model.asked <= 60
        everything = model.shape.blocks + 1
        better = [(found.layers + 1, model.shape.experts)] if found.layers < everything else []
        if found.layers == everything and found.experts:
            better = [(everything, found.experts - 1)]
        seen.add((found.layers == everything, bool(found.experts)))
        for layers, experts in better:
            for first in range(1, layers):
                way = Placement(layers, experts, ("C0", "C1"), ((first - 0.5) / layers, 1 - (first - 0.5) / layers))
                assert over(model.measure(way), cards) > 0, (found, way)
    assert len(seen) >= 3


def llama_cpps(split: Sequence[float], layers: int) -> list[int]:
    """How many layers llama.cpp gives each GPU with these shares, in its float32."""
    ends = np.cumsum(np.array(split, np.float32), dtype=np.float32)
    ends /= ends[-1]
    found = np.searchsorted(ends, np.arange(layers, dtype=np.float32) / np.float32(layers), side="right")
    return [int((found == number).sum()) for number in range(len(split))]


def test_shares_give_each_card_just_its_layers() -> None:
    for layers in range(2, 130):
        for first in range(1, layers):
            assert llama_cpps(search.split_shares((first, layers - first)), layers) == [first, layers - first]
    numbers = random.Random(1)
    for _ in range(1000):
        counts = [numbers.randint(1, 60) for _ in range(numbers.randint(3, 8))]
        assert llama_cpps(search.split_shares(counts), sum(counts)) == counts


def test_three_cards_are_shared_out_until_all_fits() -> None:
    numbers = random.Random(3)
    for _ in range(50):
        model = made(numbers)
        cards = [card(f"C{number}", numbers.uniform(4, 16) * GB) for number in range(3)]
        found, sizes = search.find_best_placement(PlacementRequest(), model.shape, cards, 10**12, model.measure)
        assert not found.layers or over(sizes, cards) <= 0
        everything = model.shape.blocks + 1
        if found.layers < everything - 1:  # three more would not fit with any split
            more = Placement(found.layers + 3, model.shape.experts, ("C0",))
            assert model.measure(more)["C0"].total > sum(each.free for each in cards) - 3 * 600_000_000


def test_a_card_that_gets_no_layer_takes_no_part() -> None:
    model = Made(10**8, 0, 10**7, 10**8, 10**8, ModelShape(10))
    cards = [card("C0", GB // 4)._replace(total=GB), card("C1", 8 * GB)]  # room for a buffer and no layer besides
    found, _ = search.find_best_placement(PlacementRequest(), model.shape, cards, 10**12, model.measure)
    assert found == Placement(11, 0, ("C1",))


def test_what_was_asked_for_is_done() -> None:
    model = Made(10**8, 10**9, 10**7, 10**8, 10**8, ModelShape(10, 10))
    cards = [card("C0", 4 * GB)]

    def best(**wish: object) -> Placement:
        return search.find_best_placement(PlacementRequest(**wish), model.shape, cards, 10**12, model.measure)[0]  # type: ignore[arg-type]

    assert best(layers=3, experts=0) == Placement(3, 0, ("C0",))
    assert best(layers=99, experts=0).layers == 11
    assert best(layers=0) == Placement()
    assert best(layers=11).experts == 8  # 4 GB less the margin, the buffers and all but the experts leave room for two
    assert best(experts=512).experts == 10
    assert best(targets=(3 * GB,)).experts > best().experts
    assert best(experts=0).layers < 11


@pytest.mark.parametrize(
    ("split", "cards", "shares"),
    [((1.0,), ("C0",), (1.0,)), ((0.0, 2.0), ("C1",), (2.0,)), ((1.0, 3.0), ("C0", "C1"), (1.0, 3.0))],
)
def test_a_card_without_a_share_takes_no_part(
    split: tuple[float, ...], cards: tuple[str, ...], shares: tuple[float, ...]
) -> None:
    model = Made(10**8, 0, 10**7, 10**8, 10**8, ModelShape(10))
    found, _ = search.find_best_placement(
        PlacementRequest(split=split), model.shape, [card("C0", GB * 8), card("C1", GB * 8)], 10**12, model.measure
    )
    assert (found.cards, found.split) == (cards, shares)


def test_less_may_go_to_a_card_than_it_has_free() -> None:
    model = Made(10**8, 0, 10**7, 10**8, 10**8, ModelShape(10))
    found, sizes = search.find_best_placement(
        PlacementRequest(), model.shape, [card("C0", GB * 8)], 10**12, model.measure, GB
    )
    assert 0 < sizes["C0"].total <= GB
    assert 0 < found.layers < 11


def test_a_full_card_takes_no_part() -> None:
    model = Made(10**8, 0, 10**7, 10**8, 10**8, ModelShape(10))
    cards = [card("C0", GB // 10)._replace(total=8 * GB), card("C1", 8 * GB)]
    assert search.find_best_placement(PlacementRequest(), model.shape, cards, 10**12, model.measure)[0].cards == ("C1",)
    assert (
        search.find_best_placement(PlacementRequest(), model.shape, cards[:1], 10**12, model.measure)[0] == Placement()
    )
    assert (
        search.find_best_placement(PlacementRequest(layers=5), model.shape, cards[:1], 10**12, model.measure)[0].layers
        == 5
    )  # as asked


def test_an_integrated_card_and_the_machine_share_one_memory() -> None:
    model = Made(10**8, 0, 10**7, 10**8, 10**8, ModelShape(100))
    cards = [card("I0", 8 * GB, integrated=True)]
    whole, sizes = search.find_best_placement(PlacementRequest(), model.shape, cards, 100 * GB, model.measure)
    assert 0 < whole.layers < 101
    tight, sizes = search.find_best_placement(PlacementRequest(), model.shape, cards, 11 * GB, model.measure)
    assert sum(size.total for size in sizes.values()) <= 11 * GB or not tight.layers


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        (PlacementRequest(split=(1, 2, 3)), "3 shares for 2 GPUs: C0, C1"),
        (PlacementRequest(split=(0, 0)), "0 for all GPUs"),
        (PlacementRequest(split=(1, -1)), "shares >= 0"),
        (PlacementRequest(split=(1, float("nan"))), "must be a list of shares"),
        (PlacementRequest(cards=("C7",)), "devices lists C7.*C0, C1"),
        (PlacementRequest(main=2), "main_gpu is 2.*C0, C1"),
        (PlacementRequest(rows=True), "split_mode row is not supported on C0"),
    ],
    ids=str,
)
def test_what_does_not_go_with_the_cards_is_a_sentence(wish: PlacementRequest, says: str) -> None:
    cards = [card("C0", GB), card("C1", GB)]
    with pytest.raises(InvalidInput, match=says):
        search.select_gpus(wish, cards)


def test_the_cards_that_are_used() -> None:
    cards = [card("C0", GB), card("C1", GB)]
    assert search.select_gpus(PlacementRequest(cards=("C1",)), cards) == (cards[1],)
    assert search.select_gpus(PlacementRequest(main=1), cards) == (cards[1],)
    assert search.select_gpus(PlacementRequest(main=0, cards=("C1",)), cards) == (cards[1],)
    assert search.select_gpus(PlacementRequest(split=(1,)), cards) == tuple(cards)
    assert search.safety_margins(PlacementRequest(targets=(1, 2)), [*cards, card("C2", GB)]) == {
        "C0": 1,
        "C1": 2,
        "C2": 2,
    }
    assert search.safety_margins(PlacementRequest(), [card("S", 2 * GB), card("L", 24 * GB)]) == {
        "S": GB // 4,
        "L": 600_000_000,
    }
