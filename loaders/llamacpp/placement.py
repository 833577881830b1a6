"""What of a model goes where: the cards, a placement on them, and what each device holds then. Plain data.

It must not know llama.cpp's library, nor how a placement is chosen (fit.py) or measured (dry_run.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

#: The name of the machine's own memory among the devices.
MEMORY = "memory"


class Card(NamedTuple):
    """A graphics card as llama.cpp sees it. `free`, `total`: bytes; an integrated one's memory is the machine's."""

    name: str  # llama.cpp's: CUDA0
    free: int
    total: int
    description: str = ""  # the maker's
    integrated: bool = False
    rows: bool = False  # whether single matrices can be shared out over cards of this kind


def titles(cards: Sequence[Card]) -> Mapping[str, str]:
    """What people call each card, by its name; with the name behind it where two are called the same."""
    known = [card.description.strip() or card.name for card in cards]
    return {
        card.name: title if known.count(title) == 1 or title == card.name else f"{title} ({card.name})"
        for card, title in zip(cards, known, strict=True)
    }


@dataclass(frozen=True)
class Placement:
    """Where a model goes. `layers`: how many go to the cards, the output layer first, then the last blocks.

    `experts`: of so many first blocks the experts stay in main memory. `cards`: their names, in llama.cpp's order; with
    none of them nothing touches a card. `split`: a share for each of the cards; () for by what they have free.
    `rows`: every matrix is cut over all cards, where they are of a kind that can.
    """

    layers: int = 0
    experts: int = 0
    cards: tuple[str, ...] = ()
    split: tuple[float, ...] = ()
    rows: bool = False


@dataclass(frozen=True)
class Sizes:
    """Bytes on one device. `rearranged`: of the weights, copies in the order in which the processor multiplies."""

    weights: int = 0
    cache: int = 0
    buffers: int = 0
    rearranged: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.buffers


#: What each device holds, by its name: MEMORY, and the names of cards.
BySize = Mapping[str, Sizes]
