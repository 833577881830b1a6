"""The best placement of a model on what the cards have free: all on them, else experts out, else fewer layers.

Pure: what a placement takes is asked of a function (dry_run.py has llama.cpp's own answer), so it can be tried against
all placements there are. It must not know llama.cpp, nor read files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from errors import InvalidInput
from loaders.llamacpp.placement import MEMORY, BySize, Card, Placement, Sizes

Measure = Callable[[Placement], BySize]

#: Kept free on a card for the driver, and for what grows while it runs: so much, or that part of a small card.
_MARGIN, _SHARE = 600_000_000, 8
_BALANCINGS = 10  # tries to share out layers over unequal cards


@dataclass(frozen=True)
class Wish:
    """What the user asks for. `layers`: how many go to cards, -1 for as many as fit; `experts`: of how many first
    blocks the experts stay in main memory, -1 for as many as needed. `cards`: names, () for all; `main`: the one of
    them that takes all, -1 for none. `split`: their shares, () for by what is free; `rows`: see Placement. `targets`:
    bytes to keep free on each card, the last one for all further ones; () for what is usual. `kept`: what was measured
    to be needed instead of that, by the cards' names.
    """

    layers: int = -1
    experts: int = -1
    cards: tuple[str, ...] = ()
    main: int = -1
    split: tuple[float, ...] = ()
    rows: bool = False
    targets: tuple[int, ...] = ()
    kept: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Shape:
    """Of the model: its blocks, and the first blocks up to the last one that has experts (0 for a dense model)."""

    blocks: int
    experts: int = 0


def chosen(wish: Wish, cards: Sequence[Card]) -> tuple[Card, ...]:
    """The cards that are to be used. Raises: InvalidInput, where the wish does not go with them."""
    by_name = {card.name: card for card in cards}
    there = ", ".join(by_name) or "none"
    if missing := [name for name in wish.cards if name not in by_name]:
        raise InvalidInput(f"devices names {missing[0]}, which llama.cpp does not find. It finds: {there}.")
    found = tuple(by_name[name] for name in wish.cards) or tuple(cards)
    if not found:
        return ()
    if wish.main >= 0:
        if wish.main >= len(found):
            raise InvalidInput(f"main_gpu is {wish.main}, counted from 0, and the cards to choose from are: {there}.")
        return (found[wish.main],)
    check_split(wish.split, [card.name for card in found])
    if wish.rows and (whole := [card.name for card in found if not card.rows]):
        raise InvalidInput(f"split_mode row is not possible on {whole[0]}: only CUDA's and SYCL's cards share rows.")
    return found


def check_split(split: Sequence[float], cards: Sequence[str]) -> None:
    """Raises: InvalidInput, where these are no shares of these cards."""
    if not split:
        return
    if any(not math.isfinite(share) or share < 0 for share in split):
        raise InvalidInput("tensor_split is a list of shares such as 18,17: none may be negative or not a number.")
    if len(split) > len(cards):
        told = "one card" if len(cards) == 1 else f"{len(cards)} cards"
        raise InvalidInput(f"tensor_split has {len(split)} shares for {told}: {', '.join(cards)}.")
    if not any(split):
        raise InvalidInput("tensor_split is 0 for all cards: leave it empty, or set n_gpu_layers to 0.")


def margins(wish: Wish, cards: Sequence[Card]) -> dict[str, int]:
    """Bytes to keep free on each card, by its name."""
    measured = dict(wish.kept)
    usual = [measured.get(card.name, min(_MARGIN, card.total // _SHARE)) for card in cards]
    asked = [*wish.targets, *wish.targets[-1:] * len(cards)][: len(cards)] or usual
    return {card.name: size for card, size in zip(cards, asked, strict=True)}


def room(card: Card, memory: int) -> int:
    """Free bytes of a card, with `memory` free bytes in the machine."""
    return min(card.free, memory) if card.integrated else card.free


def best(
    wish: Wish, shape: Shape, cards: Sequence[Card], memory: int, measure: Measure, most: int = 0
) -> tuple[Placement, BySize]:
    """The placement, and what it takes. What was asked for with numbers is done, whether it fits or not.

    `memory`: free bytes of the machine; `most`: bytes that may go to a card, or 0. Raises: InvalidInput.
    """
    return _Search(wish, shape, chosen(wish, cards), memory, measure, most).best()


class _Search:
    """Asks what placements take, each once."""

    def __init__(
        self, wish: Wish, shape: Shape, cards: tuple[Card, ...], memory: int, measure: Measure, most: int
    ) -> None:
        self._wish, self._shape, self._memory, self._measure = wish, shape, memory, measure
        kept = margins(wish, cards)
        left = {card.name: room(card, memory) - kept[card.name] for card in cards}
        self._room = {name: min(size, most) if most else size for name, size in left.items()}
        self._integrated = {card.name for card in cards if card.integrated}
        # a card with no share takes no part; nor, without shares of the user's, does one that is full
        shares = dict(zip((card.name for card in cards), wish.split, strict=False)) if wish.main < 0 else {}
        self._split = tuple(share for share in shares.values() if share)
        takes = shares if shares else {name: left > 0 for name, left in self._room.items()}
        self._cards = tuple(card for card in cards if takes.get(card.name))
        self._known: dict[Placement, BySize] = {}

    def best(self) -> tuple[Placement, BySize]:
        layers, experts = self._wish.layers, self._wish.experts
        everything = self._shape.blocks + 1
        if not self._cards:
            if layers > 0:  # as asked, though all are full: what happens then is told
                self._cards = tuple(Card(name, 0, 0) for name in self._room)
            if not self._cards or layers <= 0:
                return self._told(Placement())
        if layers >= 0:
            return self._told(self._with_experts(min(layers, everything), experts))
        if experts < 0:
            wanted = self._with_experts(everything, -1)
            if self._fits(wanted):
                return self._told(wanted)
            experts = self._shape.experts
        return self._told(self._most_layers(everything, min(experts, self._shape.blocks)))

    def _told(self, placement: Placement) -> tuple[Placement, BySize]:
        return placement, self._sizes(placement)

    def _with_experts(self, layers: int, experts: int) -> Placement:
        """So many layers, with as few experts in main memory as needed where their number is not given."""
        if experts >= 0 or not self._shape.experts:
            return self._placed(layers, max(experts, 0))
        found = self._placed(layers, 0)
        if self._fits(found):
            return found
        fitting = self._placed(layers, self._shape.experts)
        if not self._fits(fitting):
            return fitting
        low, high = 0, self._shape.experts  # low is too few, high enough
        while high - low > 1:
            middle = (low + high) // 2
            tried = self._placed(layers, middle)
            if self._fits(tried):
                high, fitting = middle, tried
            else:
                low = middle
        return fitting

    def _most_layers(self, everything: int, experts: int) -> Placement:
        """The most layers that fit, found between what fits and what does not: first by proportion, then by halves."""
        tried = self._placed(everything, experts)
        if self._fits(tried):
            return tried
        fitting, low, high = Placement(), 0, everything
        over = self._over(tried)
        for attempt in range(everything):
            if high - low <= 1:
                break
            middle = (low + high) // 2
            if attempt < 3:
                held = max((size.total for name, size in self._sizes(tried).items() if name != MEMORY), default=0)
                per_layer = max(held // max(tried.layers, 1), 1)
                middle = min(max(tried.layers - math.ceil(over / per_layer), low + 1), high - 1)
            tried = self._placed(middle, experts)
            over = self._over(tried)
            if over <= 0:
                fitting, low = tried, middle
            else:
                high = middle
        return fitting

    def _placed(self, layers: int, experts: int) -> Placement:
        """So many layers on the cards; without shares of the user's, shared out so that the fullest has most room."""
        names = tuple(card.name for card in self._cards)
        if layers <= 0:
            return Placement()
        if self._split or len(names) == 1:
            return Placement(layers, experts, names, self._split, self._wish.rows)
        return self._balanced(layers, experts, names)

    def _balanced(self, layers: int, experts: int, names: tuple[str, ...]) -> Placement:
        """Whole layers for each card: first by what it has room for, then from the fullest to the one with most room.

        Layers are not alike (experts of some stay in main memory), so how many are moved is guessed by what the fullest
        holds for each, and halved where that was too many. Where all cards together have no room nothing is moved.
        """
        counts = _parts(layers, [max(self._room[name], 1) for name in names])
        found = self._with_counts(layers, experts, names, counts)
        most = layers
        for _ in range(_BALANCINGS):
            sizes = self._sizes(found)
            over = [sizes.get(name, Sizes()).total - self._room[name] for name in names]
            if max(over) <= 0 or sum(over) > 0:
                break
            full, free = over.index(max(over)), over.index(min(over))
            each = max(sizes.get(names[full], Sizes()).total // max(counts[full], 1), 1)
            number = min(max(round((over[full] - over[free]) / 2 / each), 1), counts[full], most)
            if not number:
                break
            moved = list(counts)
            moved[full] -= number
            moved[free] += number
            tried = self._with_counts(layers, experts, names, moved)
            if self._over(tried) < self._over(found):
                found, counts = tried, moved
            else:
                most = number // 2
        return found

    def _with_counts(self, layers: int, experts: int, names: tuple[str, ...], counts: list[int]) -> Placement:
        used = {name: round(count / layers, 6) for name, count in zip(names, counts, strict=True) if count}
        split = tuple(used.values()) if len(used) > 1 else ()
        return Placement(layers, experts, tuple(used), split, self._wish.rows)

    def _fits(self, placement: Placement) -> bool:
        return self._over(placement) <= 0

    def _over(self, placement: Placement) -> int:
        """By how many bytes the fullest card has too much; negative is what it has left."""
        sizes = self._sizes(placement)
        over = [sizes[name].total - left for name, left in self._room.items() if name in sizes and sizes[name].total]
        shared = sum(sizes[name].total for name in self._integrated if name in sizes)
        if shared:
            over.append(shared + sizes.get(MEMORY, Sizes()).total - self._memory)
        return max(over, default=0)

    def _sizes(self, placement: Placement) -> BySize:
        if placement not in self._known:
            self._known[placement] = self._measure(placement)
        return self._known[placement]


def _parts(whole: int, weights: Sequence[float]) -> list[int]:
    """A number in whole parts that stand to each other about as the weights do."""
    ends = [round(whole * sum(weights[: number + 1]) / sum(weights)) for number in range(len(weights))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
