"""Decides whether a lost model is loaded again automatically: once, and not again if it is lost within a minute.

It must not know how a model is loaded.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from errors import UserError
from loaders.base import Lora, Model

log = logging.getLogger(__name__)

_REST = 60.0  # seconds that a model must run before it is loaded again automatically another time
_LONGEST = 600.0  # seconds that a request waits for the model to be loaded again


@dataclass(frozen=True)
class ReturningModel:
    """A model that is loaded again without being asked for: what happened, as a sentence, and its LoRA adapters."""

    name: str
    sentence: str
    loras: tuple[Lora, ...]

    def restore(self, model: Model) -> str:
        """Apply the adapters to the newly loaded model; returns a note about it."""
        subject = "It" if self.sentence.startswith(self.name) else self.name
        note = f"{self.sentence} {subject} was loaded again at {time.strftime('%H:%M')}."
        note = " ".join((note, *restore_loras(model, self.loras)))
        log.warning("%s", note)
        return note


def restore_loras(model: Model, loras: Sequence[Lora]) -> tuple[str, ...]:
    """Apply these adapters to the newly loaded model; returns a note if they cannot be applied."""
    try:
        if loras:
            model.set_loras(loras)
    except UserError as error:
        return (f"Its LoRA adapters could not be applied again: {error}",)
    return ()


class Recovery:
    """The recoveries of one model manager. `rest`: minimum seconds between two automatic loads."""

    def __init__(self, rest: float = _REST, clock: Callable[[], float] = time.monotonic) -> None:
        self._rest = rest
        self._clock = clock
        self._back_since: dict[str, float] = {}  # by the model's name
        self._loading: list[str] = []  # names
        self._changed = threading.Condition()

    def begin(self, name: str) -> bool:
        """A model was lost: returns whether to load it again. If so, call `start`."""
        with self._changed:
            if self._clock() - self._back_since.get(name, float("-inf")) < self._rest:
                return False
            self._back_since[name] = self._clock()  # also while it is being loaded
            self._loading.append(name)
            return True

    def start(self, name: str, load: Callable[[], object]) -> None:
        """Load it in a separate thread. Errors are already logged."""
        threading.Thread(target=self._run, args=(name, load), name="recovery", daemon=True).start()

    def _run(self, name: str, load: Callable[[], object]) -> None:
        try:
            load()
        except UserError:
            log.debug("The lost model is not loaded again.")
        finally:
            with self._changed:
                self._back_since[name] = self._clock()
                self._loading.remove(name)
                self._changed.notify_all()

    def forget(self, name: str) -> None:
        """A user has loaded this model: earlier losses do not count any more."""
        with self._changed:
            self._back_since.pop(name, None)

    @property
    def returning(self) -> tuple[str, ...]:
        """The models that are being loaded again."""
        with self._changed:
            return tuple(self._loading)

    def wait(self) -> None:
        """Wait until no model is being loaded again."""
        with self._changed:
            self._changed.wait_for(lambda: not self._loading, _LONGEST)
