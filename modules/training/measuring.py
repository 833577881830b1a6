"""Perplexity for the page: one run at a time, over the loaded model or several in turn, with a way to stop it.

It knows models, texts and the table; it must not know how anything is shown.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from errors import Conflict, InvalidInput
from modules.library.models import Models
from modules.training.evaluations import Evaluations
from modules.training.perplexity import Measured, Plan, measure
from modules.training.texts import Texts


@dataclass(frozen=True)
class Step:
    """What is being done; `measured` is there while a text is read, and `done` when its model is through."""

    name: str
    number: int
    count: int
    measured: Measured | None = None
    done: bool = False


class Measuring:
    """May be used from several threads."""

    def __init__(self, models: Models, texts: Texts, evaluations: Evaluations) -> None:
        self.texts = texts
        self.evaluations = evaluations
        self._models = models
        self._lock = threading.Lock()
        self._cancel = threading.Event()

    def run(self, names: Sequence[str], text: str, plan: Plan) -> Iterator[Step]:
        """Measure these models in turn, or the one that is loaded where none is named; each result is kept at once.

        Raises: UserError; what was measured before stays in the table.
        """
        if not text:
            raise InvalidInput("Choose a text to measure on.")
        if not self._lock.acquire(blocking=False):
            raise Conflict("A perplexity is being measured already. Stop it first, or wait until it is done.")
        self._cancel = cancel = threading.Event()
        try:
            words = self.texts.load(text)
            if not names:
                self._models.current()
                names = [self._models.state.name]
            for number, name in enumerate(names, start=1):
                yield Step(name, number, len(names))
                if name != self._models.state.name or self._models.loaded is None:
                    self._models.load(name)
                for measured in measure(self._models.current(), words, plan, cancel):
                    measured.model = name
                    yield Step(name, number, len(names), measured)
                loras = ", ".join(each.path.name for each in self._models.current().loras if each.scale)
                self.evaluations.add(measured, loras, text, plan)
                yield Step(name, number, len(names), measured, done=True)
        finally:
            self._lock.release()

    def stop(self) -> None:
        """End it after the window that is being read."""
        self._cancel.set()
