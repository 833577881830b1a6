"""The events of a training: one JSON object per line, from the training process to whoever watches it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, overload

from typing_extensions import Self

from loaders import safe_json

Kind = Literal["doing", "note", "ready", "step", "evaluation", "checkpoint", "sample", "done", "failed"]
Ending = Literal["finished", "stopped", "loss reached"]


@dataclass(frozen=True)
class TrainingEvent:
    """One event. Which fields are set depends on the kind; updates are changes of the adapter.

    doing, note: `text`. ready: `updates` in total, `update` where it starts, `accumulation`. step: `update`, `loss`,
    `learning_rate`, `tokens_per_second`, `seconds_left`, `epoch`. evaluation: `update`, `loss`. checkpoint: `update`.
    sample: `text`, which continues `prompt`. done: `text` is an Ending, `seconds`, `tokens_per_second`. failed: `text`.
    """

    kind: Kind
    text: str = ""
    prompt: str = ""
    update: int = 0
    updates: int = 0
    accumulation: int = 1
    loss: float | None = None
    learning_rate: float | None = None
    epoch: float = 0.0
    tokens_per_second: float = 0.0
    seconds: float = 0.0
    seconds_left: float | None = None

    def line(self) -> str:
        """As a line of JSON; default values are omitted."""
        known = {field.name: field.default for field in dataclasses.fields(self)}
        return json.dumps({name: value for name, value in vars(self).items() if value != known[name]})

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """Parse a line; None for one that is not an event (something else that was printed)."""
        try:
            found = safe_json.loads(line)
            return cls(**found) if isinstance(found, dict) and "kind" in found else None
        except (ValueError, TypeError):
            return None


#: How many events of a curve are kept: a chart shows no more, and a training may take a million steps.
KEPT = 1000


@dataclass(frozen=True)
class TrainingCurve(Sequence[TrainingEvent]):
    """Events in order, evenly thinned out; the first and the last are always kept. `total`: how many there were."""

    kept: tuple[TrainingEvent, ...] = ()
    total: int = 0

    def grown(self, event: TrainingEvent) -> TrainingCurve:
        """The curve with one more event. The cost does not depend on its length."""
        kept, before, every = self.kept, self._every(self.total - 1), self._every(self.total)
        if self.total and (self.total - 1) % before:
            kept = kept[:-1]  # it was only kept because it was the last one
        if every > before:
            kept = kept[::2]
        return TrainingCurve((*kept, event), self.total + 1)

    @staticmethod
    def _every(number: int) -> int:
        """The interval of kept events for this total: a power of 2."""
        return 1 << (max(number, 0) // KEPT).bit_length()

    @overload
    def __getitem__(self, at: int) -> TrainingEvent: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[TrainingEvent, ...]: ...
    def __getitem__(self, at: int | slice) -> TrainingEvent | tuple[TrainingEvent, ...]:
        return self.kept[at]

    def __len__(self) -> int:
        return len(self.kept)
