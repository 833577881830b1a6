"""The choice of layers, experts and shares, against all that could have been chosen."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from errors import InvalidInput
from loaders.llamacpp import fit
from loaders.llamacpp.fit import Shape, Wish
from loaders.llamacpp.placement import MEMORY, BySize, Card, Placement, Sizes

GB = 10**9


@dataclass
class Made:
    """A model that is none: bytes of each block without experts, of its experts and of its cache, and of the output."""

    block: int
    experts: int
    cache: int
    output: int
    buffers: int
    shape: Shape
    asked: int = 0

    def measure(self, placement: Placement) -> BySize:
        """As llama.cpp shares it out: by layer, to the card in whose part of the shares it falls."""
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
        return {
            name: Sizes(weights, cache, self.buffers if name == MEMORY or weights else 0)
            for name, (weights, cache) in held.items()
        }


def card(name: str, free: float, *, integrated: bool = False) -> Card:
    return Card(name, int(free), int(free), integrated=integrated)


def made(numbers: random.Random) -> Made:
    experts = numbers.random() < 0.5
    blocks = numbers.randint(1, 80)
    return Made(
        numbers.randint(10**6, 300 * 10**6),
        numbers.randint(10**7, 10**9) if experts else 0,
        numbers.randint(0, 100 * 10**6),
        numbers.randint(10**7, 2 * GB),
        numbers.randint(10**7, GB),
        Shape(blocks, blocks if experts else 0),
    )


def over(found: BySize, cards: Sequence[Card]) -> int:
    margins = fit.margins(Wish(), cards)
    return max(
        (found[each.name].total + margins[each.name] - each.free for each in cards if each.name in found), default=0
    )


def on_cards(placement: Placement) -> tuple[int, int]:
    return placement.layers, -placement.experts


def test_one_card_gets_the_best_that_there_is() -> None:
    """200 made-up models on cards of 4 to 24 GB, against all placements."""
    numbers = random.Random(21)
    for _ in range(200):
        model, cards = made(numbers), [card("C0", numbers.uniform(4, 24) * GB)]
        found, sizes = fit.best(Wish(), model.shape, cards, 10**12, model.measure)
        assert not found.layers or over(sizes, cards) <= 0
        assert model.asked <= 16
        everything = model.shape.blocks + 1
        ways = [Placement(everything, experts, ("C0",)) for experts in range(model.shape.experts + 1)]
        ways += [Placement(layers, model.shape.experts, ("C0",)) for layers in range(1, everything)]
        best = max((way for way in ways if over(model.measure(way), cards) <= 0), key=on_cards, default=Placement())
        assert on_cards(found) == on_cards(best)


def test_two_cards_are_never_over_the_limit_and_within_a_layer_of_the_best() -> None:
    """Neither two layers more fit, nor, with all layers there, the experts of two layers more, wherever it is cut."""
    numbers = random.Random(2)
    seen = set()
    for _ in range(100):
        model = made(numbers)
        cards = [card("C0", numbers.uniform(4, 24) * GB), card("C1", numbers.uniform(4, 24) * GB)]
        found, sizes = fit.best(Wish(), model.shape, cards, 10**12, model.measure)
        if found.layers:
            assert over(sizes, cards) <= 0
        everything = model.shape.blocks + 1
        better = [(layers, model.shape.experts) for layers in range(found.layers + 2, everything + 1)]
        if found.layers == everything:
            better += [(everything, experts) for experts in range(found.experts - 1)]
        seen.add((found.layers == everything, bool(found.experts)))
        for layers, experts in better:
            for first in range(layers + 1):
                way = Placement(layers, experts, ("C0", "C1"), (first / layers, 1 - first / layers))
                assert over(model.measure(way), cards) > 0, (found, way)
    assert len(seen) == 4


def test_a_card_that_gets_no_layer_takes_no_part() -> None:
    model = Made(10**8, 0, 10**7, 10**8, 10**8, Shape(10))
    cards = [card("C0", GB // 4)._replace(total=GB), card("C1", 8 * GB)]  # room for a buffer and no layer besides
    found, _ = fit.best(Wish(), model.shape, cards, 10**12, model.measure)
    assert found == Placement(11, 0, ("C1",))


def test_what_was_asked_for_is_done() -> None:
    model = Made(10**8, 10**9, 10**7, 10**8, 10**8, Shape(10, 10))
    cards = [card("C0", 4 * GB)]

    def best(**wish: object) -> Placement:
        return fit.best(Wish(**wish), model.shape, cards, 10**12, model.measure)[0]  # type: ignore[arg-type]

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
    model = Made(10**8, 0, 10**7, 10**8, 10**8, Shape(10))
    found, _ = fit.best(Wish(split=split), model.shape, [card("C0", GB * 8), card("C1", GB * 8)], 10**12, model.measure)
    assert (found.cards, found.split) == (cards, shares)


def test_less_may_go_to_a_card_than_it_has_free() -> None:
    model = Made(10**8, 0, 10**7, 10**8, 10**8, Shape(10))
    found, sizes = fit.best(Wish(), model.shape, [card("C0", GB * 8)], 10**12, model.measure, GB)
    assert 0 < sizes["C0"].total <= GB
    assert 0 < found.layers < 11


def test_a_full_card_takes_no_part() -> None:
    model = Made(10**8, 0, 10**7, 10**8, 10**8, Shape(10))
    cards = [card("C0", GB // 10)._replace(total=8 * GB), card("C1", 8 * GB)]
    assert fit.best(Wish(), model.shape, cards, 10**12, model.measure)[0].cards == ("C1",)
    assert fit.best(Wish(), model.shape, cards[:1], 10**12, model.measure)[0] == Placement()
    assert fit.best(Wish(layers=5), model.shape, cards[:1], 10**12, model.measure)[0].layers == 5  # as asked


def test_an_integrated_card_and_the_machine_share_one_memory() -> None:
    model = Made(10**8, 0, 10**7, 10**8, 10**8, Shape(100))
    cards = [card("I0", 8 * GB, integrated=True)]
    whole, sizes = fit.best(Wish(), model.shape, cards, 100 * GB, model.measure)
    assert 0 < whole.layers < 101
    tight, sizes = fit.best(Wish(), model.shape, cards, 11 * GB, model.measure)
    assert sum(size.total for size in sizes.values()) <= 11 * GB or not tight.layers


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        (Wish(split=(1, 2, 3)), "3 shares for 2 cards: C0, C1"),
        (Wish(split=(0, 0)), "0 for all cards"),
        (Wish(split=(1, -1)), "negative"),
        (Wish(split=(1, float("nan"))), "not a number"),
        (Wish(cards=("C7",)), "devices names C7.*C0, C1"),
        (Wish(main=2), "main_gpu is 2.*C0, C1"),
        (Wish(rows=True), "split_mode row is not possible on C0"),
    ],
    ids=str,
)
def test_what_does_not_go_with_the_cards_is_a_sentence(wish: Wish, says: str) -> None:
    cards = [card("C0", GB), card("C1", GB)]
    with pytest.raises(InvalidInput, match=says):
        fit.chosen(wish, cards)


def test_the_cards_that_are_used() -> None:
    cards = [card("C0", GB), card("C1", GB)]
    assert fit.chosen(Wish(cards=("C1",)), cards) == (cards[1],)
    assert fit.chosen(Wish(main=1), cards) == (cards[1],)
    assert fit.chosen(Wish(main=0, cards=("C1",)), cards) == (cards[1],)
    assert fit.chosen(Wish(split=(1,)), cards) == tuple(cards)
    assert fit.margins(Wish(targets=(1, 2)), [*cards, card("C2", GB)]) == {"C0": 1, "C1": 2, "C2": 2}
    assert fit.margins(Wish(), [card("S", 2 * GB), card("L", 24 * GB)]) == {"S": GB // 4, "L": 600_000_000}
