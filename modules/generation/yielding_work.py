"""What models compute while nobody waits: a request to one model ends what the others compute.

A model's own engine ends its own. It must not know what is computed.
"""

from __future__ import annotations

import threading
import weakref

from loaders.base import Model


class YieldingWork:
    """The running work of all models. May be used from several threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._total = 0
        self._requests: weakref.WeakKeyDictionary[Model, int] = weakref.WeakKeyDictionary()
        self._running: weakref.WeakKeyDictionary[threading.Event, weakref.ref[Model]] = weakref.WeakKeyDictionary()

    def requests(self, model: Model) -> int:
        """How many requests to other models have begun."""
        with self._guard:
            return self._others(model)

    def add(self, model: Model, cancel: threading.Event, requests: int) -> None:
        """This work begins; `cancel` is set to end it, at once if there are no longer so many `requests`.

        It counts as long as that object exists.
        """
        with self._guard:
            self._running[cancel] = weakref.ref(model)
            late = self._others(model) != requests
        if late:
            cancel.set()

    def give_way(self, model: Model) -> None:
        """A request to this model begins."""
        with self._guard:
            self._total += 1
            self._requests[model] = self._requests.get(model, 0) + 1
            ending = [cancel for cancel, of in self._running.items() if of() is not model]
        for cancel in ending:
            cancel.set()

    def _others(self, model: Model) -> int:
        return self._total - self._requests.get(model, 0)
