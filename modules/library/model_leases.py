"""Which requests use which model, so that a model can be unloaded between requests and not during one.

A lease lasts as long as its object: a request releases it however it ends. It must not know why.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from weakref import WeakKeyDictionary, WeakSet

from loaders.base import Model

_LOOK = 0.02  # seconds between two checks whether a model is still in use


@dataclass(eq=False)
class ModelLease:
    """A request's hold on a model. `note`: why it is another model than the requested one."""

    model: Model
    note: str = ""


class Leases:
    """The leases of all models. May be used from several threads."""

    def __init__(self) -> None:
        self._leases: WeakKeyDictionary[Model, WeakSet[ModelLease]] = WeakKeyDictionary()
        self._guard = threading.Lock()

    def begin(self, model: Model, note: str = "") -> ModelLease:
        """Hold the model for as long as the returned object exists."""
        lease = ModelLease(model, note)
        with self._guard:
            self._leases.setdefault(model, WeakSet()).add(lease)
        return lease

    def held(self, model: Model) -> bool:
        """Whether anything holds it."""
        with self._guard:
            return bool(self._leases.get(model))

    def in_use(self, model: Model) -> bool:
        """Whether anything holds it, or it has running or waiting requests."""
        return self.held(model) or bool(model.queue())

    def wait(self, model: Model, seconds: float) -> bool:
        """Wait until it is not in use, or at most this long; returns whether it is free then."""
        until = time.monotonic() + seconds
        while self.in_use(model):
            if time.monotonic() >= until:
                return False
            time.sleep(_LOOK)
        return True
