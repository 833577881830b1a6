"""Which requests use which model, so that a model can be unloaded between requests and not during one.

A lease lasts as long as its object: a request releases it however it ends. It must not know why.
"""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass

from loaders.base import Model

#: Seconds between two looks at the queue of a model that nobody holds: a request that was sent without a lease tells
#: nobody when it ends.
_LOOK = 0.1


@dataclass(eq=False)
class ModelLease:
    """A request's hold on a model. `name`: its name in the list of models; `note`: why it is another model than the
    requested one.
    """

    model: Model
    note: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        self.name = self.name or self.model.name


class Leases:
    """The leases of all models. May be used from several threads."""

    def __init__(self) -> None:
        self._count: weakref.WeakKeyDictionary[Model, int] = weakref.WeakKeyDictionary()
        # its lock is reentrant: a lease may be collected, and so end, while this thread has it
        self._ended = threading.Condition()

    def begin(self, model: Model, name: str = "") -> ModelLease:
        """Hold the model for as long as the returned object exists; `name` in the list of models, if it differs."""
        lease = ModelLease(model, name=name)
        with self._ended:
            self._count[model] = self._count.get(model, 0) + 1
        weakref.finalize(lease, self._end, weakref.ref(model)).atexit = False
        return lease

    def held(self, model: Model) -> bool:
        """Whether anything holds it."""
        with self._ended:
            return self._count.get(model, 0) > 0

    def in_use(self, model: Model) -> bool:
        """Whether anything holds it, or it has running or waiting requests."""
        return self.held(model) or bool(model.queue())

    def wait(self, model: Model, seconds: float) -> bool:
        """Wait until it is not in use, or at most this long; returns whether it is free then."""
        until = time.monotonic() + seconds
        while True:
            with self._ended:
                if not self._ended.wait_for(lambda: not self._count.get(model), max(0.0, until - time.monotonic())):
                    return False
            if not model.queue():  # without the lock: it may ask another process
                return True
            if time.monotonic() >= until:
                return False
            with self._ended:
                self._ended.wait(_LOOK)

    def _end(self, model: weakref.ref[Model]) -> None:
        if (held := model()) is not None:
            with self._ended:
                self._count[held] -= 1
                self._ended.notify_all()
