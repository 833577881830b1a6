"""The places that somebody looks at: computed once, kept for a while, their computing ended by whoever asked for it.

A place is found by its number; the oldest are forgotten. It must not know of pages or tabs.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from errors import NotFound
from loaders.params import SamplingParams
from modules.generation.generator import Generator
from modules.generation.place import Place

#: How many places are kept: at a vocabulary of 150,000 tokens each takes 0.6 MB.
KEPT = 48


class Places:
    """May be used from several threads."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._lock = threading.Lock()
        self._places: OrderedDict[int, Place] = OrderedDict()
        self._looking: dict[str, threading.Event] = {}

    def look(self, text: str, params: SamplingParams, *, who: str) -> Place:
        """Compute what comes after a text; a look that the same one began before is ended. Raises: UserError."""
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

    def get(self, id: int) -> Place:
        """A place that was looked at. Raises: NotFound, when it was forgotten."""
        with self._lock:
            place = self._places.get(id)
            if place is None:
                raise NotFound("This look was too long ago to be kept. Press Look again.")
            self._places.move_to_end(id)
            return place

    def stop(self, who: str) -> None:
        """End what this one is waiting for."""
        with self._lock:
            cancel = self._looking.get(who)
        if cancel is not None:
            cancel.set()
