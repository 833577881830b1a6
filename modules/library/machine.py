"""What this machine has free: its memory and its graphics card's. Asks the system, no engine."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil

from loaders.cards import CardMemory, card_memory

#: What a model takes beside its weights, roughly: a context of some thousand tokens, and buffers.
_BESIDE_SHARE, _BESIDE = 1.08, 600_000_000
_LOW = 700_000_000  # bytes under which a page is warned
_FRESH = 30.0  # seconds for which an answer of the card's driver is good


@dataclass(frozen=True)
class Free:
    """Bytes that are free now; `card` is None without a graphics card. `shared`: the card's memory is the machine's."""

    memory: int
    card: int | None = None
    shared: bool = False


class Machine:
    """This machine. May be asked from several threads."""

    def __init__(self) -> None:
        self._card: tuple[float, CardMemory | None] = (float("-inf"), None)

    @property
    def total(self) -> int:
        """Bytes of memory that the machine has."""
        return int(psutil.virtual_memory().total)

    def free(self) -> Free:
        """What is free now."""
        now = time.monotonic()
        if now - self._card[0] > _FRESH:
            self._card = (now, card_memory())
        memory, card = psutil.virtual_memory().available, self._card[1]
        if card is None:
            return Free(memory)
        return Free(memory, min(card.free, memory) if card.shared else card.free, card.shared)

    def warning(self) -> str:
        """A few words when the machine is about to run out of memory, else nothing."""
        memory = psutil.virtual_memory()
        if memory.available < min(_LOW, memory.total * 0.05):
            return f"memory is nearly full: {memory.available / 1e9:.1f} GB left"
        return ""

    def fits(self, size: int) -> str:
        """Where a model of this many bytes would go: in a few words, for a badge."""
        free, needed = self.free(), round(size * _BESIDE_SHARE + _BESIDE)
        if free.card is not None and needed <= free.card:
            return "fits on the GPU"
        if needed <= free.memory + (0 if free.shared else free.card or 0):
            return "fits split" if free.card else "fits in memory"
        return "too big"
