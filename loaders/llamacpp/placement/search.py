"""Finds the best placement for the GPUs' free memory: everything on GPUs, else experts in main memory, else fewer
layers.

Pure: a function returns the memory of a placement (dry_run.py asks llama.cpp), so tests can compare it with all
possible placements. It must not know llama.cpp, or read files.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from errors import InvalidInput
from loaders.gpus import Gpu
from loaders.llamacpp.placement.placement import MEMORY, DeviceMemory, MemoryByDevice, Placement

Measure = Callable[[Placement], MemoryByDevice]

#: Kept free on a GPU for the driver and for what grows while it runs: this many bytes, or this part of a small GPU.
_MARGIN, _SHARE = 600_000_000, 8
_BALANCINGS = 10  # pairs of unequal GPUs between which layers are balanced


@dataclass(frozen=True)
class PlacementRequest:
    """What the user asks for. `layers`: how many go to GPUs, -1 for as many as fit; `experts`: the experts of this many
    first blocks stay in main memory, -1 for as many as needed. `cards`: names, () for all; `main`: the one of them that
    takes everything, -1 for none. `split`: their shares, () for automatic; `rows`: see Placement. `targets`: bytes to
    keep free on each GPU, the last one for all further ones; () for the default. `kept`: measured values to use instead
    of the default, by the GPUs' names.
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
class ModelShape:
    """The model's number of blocks, and of the first blocks up to the last one that has experts (0 for a dense
    model).
    """

    blocks: int
    experts: int = 0


def select_gpus(wish: PlacementRequest, cards: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """The GPUs to use. Raises: InvalidInput if the request does not fit them."""
    by_name = {card.name: card for card in cards}
    there = ", ".join(by_name) or "none"
    if missing := [name for name in wish.cards if name not in by_name]:
        raise InvalidInput(f"devices lists {missing[0]}, which llama.cpp does not find. Available: {there}.")
    if twice := [name for name in wish.cards if wish.cards.count(name) > 1]:
        raise InvalidInput(f"devices lists {twice[0]} more than once. List each GPU once.")
    found = tuple(by_name[name] for name in wish.cards) or tuple(cards)
    if not found:
        return ()
    if wish.main >= 0:
        if wish.main >= len(found):
            raise InvalidInput(f"main_gpu is {wish.main} (counted from 0), but the available GPUs are: {there}.")
        return (found[wish.main],)
    check_split(wish.split, [card.name for card in found])
    if wish.rows and (whole := [card.name for card in found if not card.rows]):
        raise InvalidInput(f"split_mode row is not supported on {whole[0]}: it requires CUDA or SYCL.")
    return found


def check_split(split: Sequence[float], cards: Sequence[str]) -> None:
    """Raises: InvalidInput if these are not valid shares of these GPUs."""
    if not split:
        return
    if any(not math.isfinite(share) or share < 0 for share in split):
        raise InvalidInput("tensor_split must be a list of shares >= 0, such as 18,17.")
    if len(split) > len(cards):
        told = "one GPU" if len(cards) == 1 else f"{len(cards)} GPUs"
        raise InvalidInput(f"tensor_split has {len(split)} shares for {told}: {', '.join(cards)}.")
    if not any(split):
        raise InvalidInput("tensor_split is 0 for all GPUs. Leave it empty, or set n_gpu_layers to 0.")


def safety_margins(wish: PlacementRequest, cards: Sequence[Gpu]) -> dict[str, int]:
    """Bytes to keep free on each GPU, by its name."""
    measured = dict(wish.kept)
    usual = [measured.get(card.name, min(_MARGIN, card.total // _SHARE)) for card in cards]
    asked = [*wish.targets, *wish.targets[-1:] * len(cards)][: len(cards)] or usual
    return {card.name: size for card, size in zip(cards, asked, strict=True)}


def usable_bytes(card: Gpu, memory: int) -> int:
    """Free bytes of a GPU, with `memory` free bytes in the machine."""
    return min(card.free, memory) if card.integrated else card.free


def find_best_placement(
    wish: PlacementRequest, shape: ModelShape, cards: Sequence[Gpu], memory: int, measure: Measure, most: int = 0
) -> tuple[Placement, MemoryByDevice]:
    """The placement and its memory. Numbers given by the user are applied, whether it fits or not.

    `memory`: free bytes of the machine; `most`: maximum bytes per GPU, or 0. Raises: InvalidInput.
    """
    return _Search(wish, shape, select_gpus(wish, cards), memory, measure, most).best()


class _Search:
    """Computes the memory of placements, each once."""

    def __init__(
        self,
        wish: PlacementRequest,
        shape: ModelShape,
        cards: tuple[Gpu, ...],
        memory: int,
        measure: Measure,
        most: int,
    ) -> None:
        self._wish, self._shape, self._memory, self._measure = wish, shape, memory, measure
        kept = safety_margins(wish, cards)
        left = {card.name: usable_bytes(card, memory) - kept[card.name] for card in cards}
        self._room = {name: min(size, most) if most else size for name, size in left.items()}
        self._integrated = {card.name for card in cards if card.integrated}
        # a GPU with a share of 0 is not used; nor is a full one, unless the user gave shares
        shares = dict(zip((card.name for card in cards), wish.split, strict=False)) if wish.main < 0 else {}
        self._split = tuple(share for share in shares.values() if share)
        takes = shares if shares else {name: left > 0 for name, left in self._room.items()}
        self._cards = tuple(card for card in cards if takes.get(card.name))
        self._known: dict[Placement, MemoryByDevice] = {}

    def best(self) -> tuple[Placement, MemoryByDevice]:
        layers, experts = self._wish.layers, self._wish.experts
        everything = self._shape.blocks + 1
        if not self._cards:
            if layers > 0:  # as requested, although all are full: the consequences are reported
                self._cards = tuple(Gpu(name, 0, 0) for name in self._room)
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

    def _told(self, placement: Placement) -> tuple[Placement, MemoryByDevice]:
        return placement, self._sizes(placement)

    def _with_experts(self, layers: int, experts: int) -> Placement:
        """This many layers, with as few experts in main memory as needed, unless their number is given."""
        if experts >= 0 or not self._shape.experts:
            return self._placed(layers, max(experts, 0))
        found = self._placed(layers, 0)
        if self._fits(found):
            return found
        fitting = self._placed(layers, self._shape.experts)
        if not self._fits(fitting):
            return fitting
        low, high = 0, self._shape.experts  # low is too few, high is enough
        while high - low > 1:
            middle = (low + high) // 2
            tried = self._placed(layers, middle)
            if self._fits(tried):
                high, fitting = middle, tried
            else:
                low = middle
        return fitting

    def _most_layers(self, everything: int, experts: int) -> Placement:
        """The maximum number of layers that fit, by interpolation first, then by bisection."""
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
        """This many layers on the GPUs; without the user's shares, split so that the fullest GPU has the most room."""
        names = tuple(card.name for card in self._cards)
        if layers <= 0:
            return Placement()
        if self._split or len(names) == 1:
            return Placement(layers, experts, names, self._split, self._wish.rows)
        return self._balanced(layers, experts, names)

    def _balanced(self, layers: int, experts: int, names: tuple[str, ...]) -> Placement:
        """Whole layers for each GPU: first in proportion to its free memory, then moved from the fullest to the
        emptiest until it fits. If all GPUs together lack more room than buffers take, nothing is moved.
        """
        counts = _parts(layers, [max(self._room[name], 1) for name in names])
        found = self._with_counts(layers, experts, names, counts)
        for _ in range(_BALANCINGS):
            over = self._over_each(found, names)
            buffers = sum(size.buffers for name, size in self._sizes(found).items() if name in names)
            if max(over) <= 0 or sum(over) > buffers:
                break
            moved = self._evened(found, counts, over.index(max(over)), over.index(min(over)))
            if moved == counts:
                break
            counts, found = moved, self._with_counts(layers, experts, names, moved)
        return found

    def _evened(self, placement: Placement, counts: list[int], full: int, free: int) -> list[int]:
        """Move layers from one GPU to another until both are equally full, or everything fits, in as few tries as
        possible.

        Layers differ in size (experts of some stay in main memory), so the number is searched between too few and too
        many: first by the fullest GPU's bytes per layer, then by bisection.
        """
        names = tuple(card.name for card in self._cards)

        def tried(number: int) -> tuple[list[int], Placement]:
            moved = [count - number * (i == full) + number * (i == free) for i, count in enumerate(counts)]
            return moved, self._with_counts(placement.layers, placement.experts, names, moved)

        low, high = 0, counts[full] + 1
        best, least = list(counts), self._over(placement)
        number = self._guess(placement, names, counts, full, free)
        while high - low > 1:
            number = min(max(number, low + 1), high - 1)
            moved, way = tried(number)
            if (worst := self._over(way)) < least:
                best, least = moved, worst
            if worst <= 0:
                break
            over = self._over_each(way, names)
            if over[full] > over[free]:
                low = number
            else:
                high = number
            number = (low + high) // 2
        return best

    def _guess(self, placement: Placement, names: tuple[str, ...], counts: Sequence[int], full: int, free: int) -> int:
        """How many layers would make two GPUs equally full if all layers of the fullest had the same size."""
        over = self._over_each(placement, names)
        held = self._sizes(placement).get(names[full], DeviceMemory()).total
        return round((over[full] - over[free]) / 2 / max(held // max(counts[full], 1), 1))

    def _over_each(self, placement: Placement, names: Sequence[str]) -> list[int]:
        """By how many bytes each GPU is over its limit; negative is free."""
        sizes = self._sizes(placement)
        return [sizes.get(name, DeviceMemory()).total - self._room[name] for name in names]

    def _with_counts(self, layers: int, experts: int, names: tuple[str, ...], counts: list[int]) -> Placement:
        used = {name: count for name, count in zip(names, counts, strict=True) if count}
        split = split_shares(tuple(used.values())) if len(used) > 1 else ()
        return Placement(layers, experts, tuple(used), split, self._wish.rows)

    def _fits(self, placement: Placement) -> bool:
        return self._over(placement) <= 0

    def _over(self, placement: Placement) -> int:
        """By how many bytes the fullest GPU is over its limit; negative is free."""
        sizes = self._sizes(placement)
        over = [sizes[name].total - left for name, left in self._room.items() if name in sizes and sizes[name].total]
        shared = sum(sizes[name].total for name in self._integrated if name in sizes)
        if shared:
            over.append(shared + sizes.get(MEMORY, DeviceMemory()).total - self._memory)
        return max(over, default=0)

    def _sizes(self, placement: Placement) -> MemoryByDevice:
        if placement not in self._known:
            self._known[placement] = self._measure(placement)
        return self._known[placement]


def split_shares(counts: Sequence[int]) -> tuple[float, ...]:
    """Shares by which llama.cpp gives each GPU exactly this many layers, at least one each.

    It takes the first GPU whose part of the sum is greater than a layer's number divided by their count
    (llama-model.cpp, get_layer_buft_list, in float32): so a share ends half a layer before the next GPU's first one,
    and rounding never changes the number of layers.
    """
    layers = sum(counts)
    ends = [0.0, *(sum(counts[: number + 1]) - 0.5 for number in range(len(counts) - 1)), float(layers)]
    return tuple(round((end - start) / layers, 6) for start, end in itertools.pairwise(ends))


def _parts(whole: int, weights: Sequence[float]) -> list[int]:
    """A number split into integers in proportion to the weights."""
    ends = [round(whole * sum(weights[: number + 1]) / sum(weights)) for number in range(len(weights))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
