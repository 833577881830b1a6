"""What a training says while it runs: one JSON object a line, between the process that trains and whoever watches."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, overload

from typing_extensions import Self

from loaders import plain_json

Kind = Literal["doing", "note", "ready", "step", "evaluation", "checkpoint", "sample", "done", "failed"]
Ending = Literal["finished", "stopped", "loss reached"]


@dataclass(frozen=True)
class Event:
    """One thing said. Which fields mean something depends on the kind; updates are changes of the adapter.

    doing, note: `text`. ready: `updates` in all, `update` where it begins, `accumulation`. step: `update`, `loss`,
    `learning_rate`, `tokens_per_second`, `seconds_left`, `epoch`. evaluation: `update`, `loss`. checkpoint: `update`.
    sample: `text`, which follows `prompt`. done: `text` is an Ending, `seconds`, `tokens_per_second`. failed: `text`.
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
        """As a line of JSON; what has its default is left out."""
        known = {field.name: field.default for field in dataclasses.fields(self)}
        return json.dumps({name: value for name, value in vars(self).items() if value != known[name]})

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """From a line; None for one that is no event (something else that was printed)."""
        try:
            found = plain_json.loads(line)
            return cls(**found) if isinstance(found, dict) and "kind" in found else None
        except (ValueError, TypeError):
            return None


#: How many events of a curve are kept: a picture shows no more, and a training may take a million steps.
KEPT = 1000


@dataclass(frozen=True)
class Curve(Sequence[Event]):
    """Events in their order, evenly thinned; the first and the last are always there. `total`: how many there were."""

    kept: tuple[Event, ...] = ()
    total: int = 0

    def grown(self, event: Event) -> Curve:
        """With one more. Costs the same however long the curve is."""
        kept, before, every = self.kept, self._every(self.total - 1), self._every(self.total)
        if self.total and (self.total - 1) % before:
            kept = kept[:-1]  # it was there as the last one alone
        if every > before:
            kept = kept[::2]
        return Curve((*kept, event), self.total + 1)

    @staticmethod
    def _every(number: int) -> int:
        """Which multiples are kept when so many have come: a power of 2."""
        return 1 << (max(number, 0) // KEPT).bit_length()

    @overload
    def __getitem__(self, at: int) -> Event: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Event, ...]: ...
    def __getitem__(self, at: int | slice) -> Event | tuple[Event, ...]:
        return self.kept[at]

    def __len__(self) -> int:
        return len(self.kept)
