"""Perplexity for the page: one run at a time, over the loaded model or several in turn, with a way to stop it.

A run continues in its own thread, whether or not a page is watching; its state is a snapshot. It knows models, texts
and the table; it must not know how anything is shown.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from errors import Cancelled, Conflict, InvalidInput, UserError
from modules.library.model_leases import ModelLease
from modules.library.model_manager import ModelManager
from modules.training.perplexity.evaluations import Evaluations
from modules.training.perplexity.measure import PerplexityResult, WindowPlan, measure_perplexity
from modules.training.perplexity.texts import PerplexityTexts

log = logging.getLogger(__name__)

#: The most tokens of a text that are kept as text after a run.
SHOWN = 3000

Phase = Literal["none", "running", "done", "stopped", "failed"]


@dataclass(frozen=True)
class PerplexityRun:
    """The state of the current run, or of the last one. `pieces` are the text's first tokens, of the last model.

    `measured` is one object while a model runs; its `window` shows the progress.
    """

    phase: Phase = "none"
    name: str = ""
    number: int = 0
    count: int = 0
    window: int = 0
    measured: PerplexityResult | None = None
    through: bool = False  # this model has read the text to its end
    pieces: tuple[str, ...] = ()
    kept: int = 0  # results that are in the table
    error: str = ""


class PerplexityManager:
    """May be used from several threads."""

    def __init__(self, models: ModelManager, texts: PerplexityTexts, evaluations: Evaluations) -> None:
        self.texts = texts
        self.evaluations = evaluations
        self._models = models
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._run = PerplexityRun()
        self._thread: threading.Thread | None = None

    @property
    def run(self) -> PerplexityRun:
        """The current state: a snapshot."""
        with self._lock:
            return self._run

    def start(self, names: Sequence[str], text: str, plan: WindowPlan) -> None:
        """Start measuring these models in turn, or the loaded one if none is named.

        Each result is saved at once; later errors are reported in the run's state. Raises: InvalidInput, Conflict,
        NoModelLoaded.
        """
        if not text:
            raise InvalidInput("Choose a text to measure on.")
        if not names:
            self._models.current()
            names = [self._models.state.name]
        with self._lock:
            if self._run.phase == "running":
                raise Conflict("A perplexity measurement is already running. Stop it first, or wait for it to finish.")
            self._run = PerplexityRun("running", names[0], 1, len(names))
            self._cancel = threading.Event()
        given = (names, text, plan, self._cancel)
        self._thread = threading.Thread(target=self._work, args=given, name="perplexity", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current window."""
        self._cancel.set()

    def wait(self, seconds: float | None = None) -> PerplexityRun:
        """Wait until it is finished or the time is over; returns the state."""
        if self._thread:
            self._thread.join(seconds)
        return self.run

    def close(self) -> None:
        """Stop it at shutdown."""
        self.stop()
        self.wait(10)

    # --- in its thread ---

    def _work(self, names: Sequence[str], text: str, plan: WindowPlan, cancel: threading.Event) -> None:
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
            log.exception("Measuring perplexity failed")
            end = replace(self.run, phase="failed", error="The measurement failed. See the log for details.")
        with self._lock:
            self._run = end

    def _steps(
        self, names: Sequence[str], text: str, plan: WindowPlan, cancel: threading.Event
    ) -> Iterator[PerplexityRun]:
        words = self.texts.load(text)
        for number, name in enumerate(names, start=1):
            run = PerplexityRun("running", name, number, len(names), kept=number - 1)
            yield run
            lease = self._lease(name)
            model = lease.model
            for measured in measure_perplexity(model, words, plan, cancel):
                measured.model = name
                run = replace(run, measured=measured, window=measured.done)
                yield run
            assert run.measured  # there is at least one window, or measure would have raised
            loras = ", ".join(each.path.name for each in model.loras if each.scale)
            self.evaluations.add(run.measured, loras, text, plan)
            pieces = (model.tokenizer.piece(token, special=True) for token in run.measured.ids[:SHOWN])
            shown = tuple(piece.decode("utf-8", "replace") for piece in pieces)
            yield replace(run, through=True, pieces=shown, kept=number)

    def _lease(self, name: str) -> ModelLease:
        """The model, loaded if necessary: it is not unloaded for others while its windows are read."""
        memory = self._models.memory
        return memory.lease(name) or memory.leases.begin(self._models.load(name))
