"""The free memory of this machine and its GPUs, from the system. Uses no engine."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil

from loaders.forecast import Forecast
from loaders.gpus import Gpu, GpuMemory, free_gpu_memory

#: Approximate memory of a model besides its weights: a context of some thousand tokens, and buffers.
_BESIDE_SHARE, _BESIDE = 1.08, 600_000_000
_LOW = 700_000_000  # free bytes below which the page shows a warning
_FRESH = 30.0  # seconds for which the driver's answer is valid


@dataclass(frozen=True)
class FreeMemory:
    """Bytes that are free now; `card` is None without a GPU. `shared`: the GPU's memory is the machine's."""

    memory: int
    card: int | None = None
    shared: bool = False


class SystemMemory:
    """This machine. May be used from several threads."""

    def __init__(self) -> None:
        self._card: tuple[float, GpuMemory | None] = (float("-inf"), None)

    @property
    def total(self) -> int:
        """Total bytes of memory of the machine."""
        return int(psutil.virtual_memory().total)

    def cards(self) -> tuple[Gpu, ...]:
        """The GPUs that llama.cpp finds; their free memory is at most half a minute old."""
        found = self._known()
        return found.cards if found else ()

    def _known(self) -> GpuMemory | None:
        now = time.monotonic()
        if now - self._card[0] > _FRESH:
            self._card = (now, free_gpu_memory())
        return self._card[1]

    def free(self) -> FreeMemory:
        """What is free now."""
        memory, card = psutil.virtual_memory().available, self._known()
        if card is None:
            return FreeMemory(memory)
        return FreeMemory(memory, min(card.free, memory) if card.shared else card.free, card.shared)

    def warning(self) -> str:
        """A short warning if the machine is about to run out of memory, else empty."""
        memory = psutil.virtual_memory()
        if memory.available < min(_LOW, memory.total * 0.05):
            return f"memory is almost full: {memory.available / 1e9:.1f} GB left"
        return ""

    def fits(self, size: int) -> str:
        """Where a model of this size would fit, if nothing else is known: in a few words, for a badge."""
        free, needed = self.free(), round(size * _BESIDE_SHARE + _BESIDE)
        if free.card is not None and needed <= free.card:
            return "fits on the GPU"
        if needed <= free.memory + (0 if free.shared else free.card or 0):
            return "fits split" if free.card else "fits in memory"
        return "too big"


def badge(forecast: Forecast) -> str:
    """The same words for a model's forecast."""
    if not forecast.fits:
        return "too big"
    on_cards = any(device.total for device in forecast.devices[1:])
    return "fits on the GPU" if forecast.whole and on_cards else "fits split" if on_cards else "fits in memory"
