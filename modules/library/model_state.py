"""The state of the loaded model, and the loaders for a model. It must not know how that is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from loaders.base import Progress

Phase = Literal["none", "loading", "loaded", "unloading"]

#: Brings a model into the models folder before it is loaded: the demo model's download.
Obtain = Callable[[Progress], None]


@dataclass(frozen=True)
class ModelState:
    """The current state of the model. `fraction` is from 0 to 1 while loading."""

    phase: Phase = "none"
    name: str = ""
    loader: str = ""
    fraction: float = 0.0
    doing: str = ""
    error: str = ""  # why the last load failed; empty again when another one begins
    again: str = ""  # why it is loaded again automatically
    idle: str = ""  # a model that was unloaded as idle: the next request loads it again
    notes: tuple[str, ...] = ()  # what was decided while loading, with the reasons


@dataclass(frozen=True)
class LoaderChoice:
    """A loader for a model; `missing` says what must be installed first."""

    name: str
    score: int
    missing: str | None = None
