"""Data types: the GPUs, a placement of a model on them, and what each device holds then.

It must not know llama.cpp's library, or how a placement is chosen (search.py) or measured (dry_run.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loaders.gpus import Gpu

#: The name of main memory among the devices.
MEMORY = "memory"


def gpu_titles(cards: Sequence[Gpu]) -> Mapping[str, str]:
    """The title of each GPU by its name; with the name added if two have the same title."""
    known = [card.description.strip() or card.name for card in cards]
    return {
        card.name: title if known.count(title) == 1 or title == card.name else f"{title} ({card.name})"
        for card, title in zip(cards, known, strict=True)
    }


@dataclass(frozen=True)
class Placement:
    """Where a model goes. `layers`: how many go to the GPUs, the output layer first, then the last blocks.

    `experts`: the experts of this many first blocks stay in main memory. `cards`: their names, in llama.cpp's order;
    without any, no GPU is used. `split`: a share for each of the GPUs; () for automatic, by free memory. `rows`: every
    matrix is split over all GPUs, if they support it.
    """

    layers: int = 0
    experts: int = 0
    cards: tuple[str, ...] = ()
    split: tuple[float, ...] = ()
    rows: bool = False


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes on one device. `rearranged`: copies of weights in the order in which the CPU multiplies."""

    weights: int = 0
    cache: int = 0
    buffers: int = 0
    rearranged: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.buffers


#: What each device holds, by its name: MEMORY, and the names of GPUs.
MemoryByDevice = Mapping[str, DeviceMemory]
