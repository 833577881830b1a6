"""Perplexity for the page: one run at a time, over the loaded model or several in turn, with a way to stop it.

A run goes on in a thread of its own, whether or not a page looks at it; how it stands is a snapshot. It knows models,
texts and the table; it must not know how anything is shown.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from errors import Cancelled, Conflict, InvalidInput, UserError
from modules.library.models import Models
from modules.training.evaluations import Evaluations
from modules.training.perplexity import Measured, Plan, measure
from modules.training.texts import Texts

log = logging.getLogger(__name__)

#: Tokens of a text that are kept as text when it is through.
SHOWN = 3000

Phase = Literal["none", "running", "done", "stopped", "failed"]


@dataclass(frozen=True)
class Run:
    """How a run stands, the last one when none goes on. `pieces` are the text's first tokens, of the last model.

    `measured` is one and the same object while a model reads; `window` of it tells how far.
    """

    phase: Phase = "none"
    name: str = ""
    number: int = 0
    count: int = 0
    window: int = 0
    measured: Measured | None = None
    through: bool = False  # the text was read to its end by this model
    pieces: tuple[str, ...] = ()
    kept: int = 0  # results that are in the table
    error: str = ""


class Measuring:
    """May be used from several threads."""

    def __init__(self, models: Models, texts: Texts, evaluations: Evaluations) -> None:
        self.texts = texts
        self.evaluations = evaluations
        self._models = models
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._run = Run()
        self._thread: threading.Thread | None = None

    @property
    def run(self) -> Run:
        """How things stand: a snapshot."""
        with self._lock:
            return self._run

    def start(self, names: Sequence[str], text: str, plan: Plan) -> None:
        """Begin to measure these models in turn, or the one that is loaded where none is named.

        Each result is kept at once; what goes wrong later is the run's error. Raises: InvalidInput, Conflict,
        NoModelLoaded.
        """
        if not text:
            raise InvalidInput("Choose a text to measure on.")
        if not names:
            self._models.current()
            names = [self._models.state.name]
        with self._lock:
            if self._run.phase == "running":
                raise Conflict("A perplexity is being measured already. Stop it first, or wait until it is done.")
            self._run = Run("running", names[0], 1, len(names))
            self._cancel = threading.Event()
        given = (names, text, plan, self._cancel)
        self._thread = threading.Thread(target=self._work, args=given, name="perplexity", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it after the window that is being read."""
        self._cancel.set()

    def wait(self, seconds: float | None = None) -> Run:
        """Until it is done, or so long; how it stands then."""
        if self._thread:
            self._thread.join(seconds)
        return self.run

    def close(self) -> None:
        """End it with the program."""
        self.stop()
        self.wait(10)

    # --- in its thread ---

    def _work(self, names: Sequence[str], text: str, plan: Plan, cancel: threading.Event) -> None:
        try:
            for step in self._steps(names, text, plan, cancel):
                with self._lock:
                    self._run = step
            end = replace(self.run, phase="done")
        except Cancelled:
            end = replace(self.run, phase="stopped")
        except UserError as error:
            end = replace(self.run, phase="failed", error=str(error))
        except Exception:
            log.exception("Measuring the perplexity")
            end = replace(self.run, phase="failed", error="Measuring failed; the log has the details.")
        with self._lock:
            self._run = end

    def _steps(self, names: Sequence[str], text: str, plan: Plan, cancel: threading.Event) -> Iterator[Run]:
        words = self.texts.load(text)
        for number, name in enumerate(names, start=1):
            run = Run("running", name, number, len(names), kept=number - 1)
            yield run
            model = self._models.named(name) or self._models.load(name)
            for measured in measure(model, words, plan, cancel):
                measured.model = name
                run = replace(run, measured=measured, window=measured.done)
                yield run
            assert run.measured  # there is a window, or measure had raised
            loras = ", ".join(each.path.name for each in model.loras if each.scale)
            self.evaluations.add(run.measured, loras, text, plan)
            pieces = (model.tokenizer.piece(token, special=True) for token in run.measured.ids[:SHOWN])
            shown = tuple(piece.decode("utf-8", "replace") for piece in pieces)
            yield replace(run, through=True, pieces=shown, kept=number)
