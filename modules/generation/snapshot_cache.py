"""The logits snapshots that users inspect: computed once, kept for a while, and cancelled by whoever requested them.

A snapshot is found by its number; the oldest are deleted. It must not know of pages or tabs.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from errors import NotFound
from loaders.params import SamplingParams
from modules.generation.generator import Generator
from modules.generation.logits_snapshot import LogitsSnapshot

#: How many snapshots are kept: with a vocabulary of 150,000 tokens, each takes 0.6 MB.
KEPT = 48


class SnapshotCache:
    """May be used from several threads."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._lock = threading.Lock()
        self._places: OrderedDict[int, LogitsSnapshot] = OrderedDict()
        self._looking: dict[str, threading.Event] = {}

    def compute(self, text: str, params: SamplingParams, *, who: str) -> LogitsSnapshot:
        """Compute what comes after a text; an earlier inspection by the same page is cancelled. Raises: UserError."""
        cancel = threading.Event()
        with self._lock:
            before = self._looking.get(who)
            self._looking[who] = cancel
        if before is not None:
            before.set()
        try:
            place = self._generator.session().look(text, params, label=f"{who}: next token", cancel=cancel)
        finally:
            with self._lock:
                if self._looking.get(who) is cancel:
                    del self._looking[who]
        with self._lock:
            self._places[place.id] = place
            while len(self._places) > KEPT:
                self._places.popitem(last=False)
        return place

    def get(self, id: int) -> LogitsSnapshot:
        """A stored snapshot. Raises: NotFound if it was deleted."""
        with self._lock:
            place = self._places.get(id)
            if place is None:
                raise NotFound("This result has expired. Press Inspect again.")
            self._places.move_to_end(id)
            return place

    def stop(self, who: str) -> None:
        """Cancel what this page is waiting for."""
        with self._lock:
            cancel = self._looking.get(who)
        if cancel is not None:
            cancel.set()
