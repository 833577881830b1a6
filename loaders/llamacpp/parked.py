"""Runs that wait for their grammars and hold no place in the batch: a slow grammar costs its own request alone.

A request with a grammar stands here until the grammar has been read, and again whenever an answer takes long while
others wait for a place. Used by the engine's thread alone; it must not know of contexts or sequences.
"""

from __future__ import annotations

import time

from loaders.job import Errand, Job
from loaders.line import Line
from loaders.llamacpp.run import Run

#: A run whose grammar has not answered for so long gives up its place where others wait, in seconds.
PATIENCE = 0.1


class Parked:
    """The runs, and their ways out of the line and back into it."""

    def __init__(self, line: Line[Job | Run]) -> None:
        self._line = line
        self.runs: list[Run] = []

    def take_from_line(self) -> list[Job]:
        """Requests of the line whose grammars are to be read before they get a place; no more of them stand there.

        Those behind an errand stay: they are for what will be after it.
        """
        found = self._line.take_before(_has_grammar, lambda item: isinstance(item, Errand))
        return [item for item in found if isinstance(item, Job)]

    def too_slow(self, runs: list[Run]) -> list[Run]:
        """Those of the running that have waited for their grammars for too long."""
        now = time.monotonic()
        return [run for run in runs if run.held is not None and now - run.held_since > PATIENCE]

    def add(self, run: Run) -> None:
        self.runs.append(run)

    def remove(self, run: Run) -> None:
        if run in self.runs:
            self.runs.remove(run)

    def send_back(self, until: float) -> None:
        """Into the line again: all that are not waiting any more. They may be waited for until then (monotonic)."""
        for run in list(self.runs):
            if run.held is None and run.sampler.ready(max(0.0, until - time.monotonic())) and not run.sampler.problem:
                self.runs.remove(run)
                # who has begun goes on as the next one; and an errand must not overtake who came before it
                errand = any(isinstance(job, Errand) for job in self._line.jobs())
                self._line.send_back(run, first=errand or bool(run.job.started))


def _has_grammar(item: Job | Run) -> bool:
    return isinstance(item, Job) and bool(item.request.params.grammar_string.strip())
