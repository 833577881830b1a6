"""What happens on the cards while a model is loaded: how much they really lose, whether one is nearly full, how long
replies take. Told to measured.py when the model leaves, so that the next forecast is nearer.

It must not know llama.cpp: `free` says what a card has free. No thread of its own; whoever asks for warnings looks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from loaders.llamacpp.measured import Measured
from loaders.llamacpp.placement import Card, titles

#: A card with less than this free, or than this part of it, is nearly full.
_LOW, _PART = 300_000_000, 25
_PAUSE = 5.0  # seconds between two looks


class Watch:
    """One load. May be used from several threads."""

    def __init__(
        self,
        cards: Sequence[Card],
        account: Mapping[str, int],
        free: Callable[[str], int | None],
        *,
        expected: float = 0.0,
        kind: str = "",
        known: Measured | None = None,
    ) -> None:
        """`cards`: those that are used, as they were before the load; `account`: the bytes on each that llama.cpp tells
        of. `expected`: seconds a token by the bandwidths alone, 0 where not known; `kind`: the model's quantization.
        """
        self._cards, self._account, self._free = tuple(cards), dict(account), free
        self._expected, self._kind = expected, kind
        self._known = known or Measured()
        self._called = titles(cards)
        self._lock = threading.Lock()
        self._beyond: dict[str, int] = {}  # the most that was seen
        self._looked, self._warning = float("-inf"), ""
        self._look()

    def warning(self) -> str:
        """A few words when a card is about to be full, before its driver moves parts to main memory; else nothing."""
        with self._lock:
            if time.monotonic() - self._looked > _PAUSE:
                self._look()
            return self._warning

    def end(self, seconds: float) -> None:
        """The model is about to leave. `seconds`: what a token of its replies took, 0 where there were too few."""
        with self._lock:
            self._look()
            for card in self._cards:
                if card.name in self._beyond:
                    self._known.note_beyond(card, self._beyond[card.name])
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
                    f"{self._called[card.name]} is nearly full: {left / 1e9:.1f} GB left. When it is full, replies get "
                    "slow or fail: lower n_ctx or n_gpu_layers, or close other programs that use it"
                )
