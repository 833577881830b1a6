"""Monitors a loaded model: how much memory the GPUs and this process really lose, whether a GPU is nearly full, and the
speed of replies. The results go to measurements.py when the model is unloaded, to improve the next forecast.

It must not know llama.cpp: `free` returns a GPU's free memory. No separate thread: it checks when somebody asks for
warnings.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import psutil

from loaders.gpus import Gpu
from loaders.llamacpp.placement.measurements import Measurements
from loaders.llamacpp.placement.placement import gpu_titles

#: A GPU with less than this free, or than this part of it, is nearly full.
_LOW, _PART = 300_000_000, 25
_PAUSE = 5.0  # seconds between two checks


def process_bytes() -> int | None:
    """Bytes of main memory that only this process uses: without the pages of mapped files, such as a model's.

    None if the system does not distinguish them: macOS, and user-space kernels such as gVisor, for which no page is
    shared, although each program's code is.
    """
    told = psutil.Process().memory_info()
    if hasattr(told, "shared"):  # Linux
        return int(told.rss - told.shared) if told.shared else None
    return int(told.private) if hasattr(told, "private") else None  # Windows


class MemoryWatch:
    """One load. May be used from several threads."""

    def __init__(
        self,
        cards: Sequence[Gpu],
        account: Mapping[str, int],
        free: Callable[[str], int | None],
        *,
        expected: float = 0.0,
        kind: str = "",
        memory_beyond: int | None = None,
        known: Measurements | None = None,
    ) -> None:
        """`cards`: those that are used, as they were before the load; `account`: the bytes on each that llama.cpp
        reports. `expected`: seconds per token by the bandwidths only, 0 if unknown; `kind`: the model's quantization.
        `memory_beyond`: bytes of main memory that the load took in addition to llama.cpp's report, None if unknown.
        """
        self._cards, self._account, self._free = tuple(cards), dict(account), free
        self._expected, self._kind, self._memory_beyond = expected, kind, memory_beyond
        self._known = known or Measurements()
        self._called = gpu_titles(cards)
        self._lock = threading.Lock()
        self._beyond: dict[str, int] = {}  # the maximum that was measured
        self._looked, self._warning = float("-inf"), ""
        self._look()

    def warning(self) -> str:
        """A short warning when a GPU is almost full, before its driver moves data to main memory; else empty."""
        with self._lock:
            if time.monotonic() - self._looked > _PAUSE:
                self._look()
            return self._warning

    def end(self, seconds: float) -> None:
        """The model is about to be unloaded. `seconds`: the time per token of its replies, 0 if there were too few."""
        with self._lock:
            self._look()
            for card in self._cards:
                if card.name in self._beyond:
                    self._known.note_beyond(card, self._beyond[card.name])
            if self._memory_beyond is not None:
                self._known.note_memory_beyond(self._memory_beyond)
        if seconds > 0 and self._expected > 0:
            self._known.note_pace(self._cards, self._kind, seconds / self._expected)

    def _look(self) -> None:
        self._looked, self._warning = time.monotonic(), ""
        for card in self._cards:
            left = self._free(card.name)
            if left is None:
                continue
            beyond = card.free - left - self._account.get(card.name, 0)
            self._beyond[card.name] = max(beyond, self._beyond.get(card.name, beyond))
            if left < min(_LOW, card.total // _PART):
                self._warning = (
                    f"{self._called[card.name]} is almost full: {left / 1e9:.1f} GB left. When it is full, "
                    "replies become slow or fail: lower n_ctx or n_gpu_layers, or close other programs that use "
                    "it"
                )
