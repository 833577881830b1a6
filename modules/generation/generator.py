"""The entrance to the model in memory: a session for each request, and the queue of all of them.

It is the one place above `library` that asks which model is loaded, and it asks once for a request. It must not know
what a request is about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from loaders.base import Model, QueueEntry
from modules.extensions import Extensions
from modules.generation.session import ModelSession


class ModelSource(Protocol):
    """Where the loaded model is to be had."""

    @property
    def loaded(self) -> Model | None:
        """None while there is none."""
        ...

    def current(self) -> Model:
        """Raises: NoModelLoaded."""
        ...


class Generator:
    """Begins requests. May be used from several threads."""

    def __init__(
        self,
        models: ModelSource,
        extensions: Extensions | None = None,
        kept: Callable[[str], Mapping[str, Any]] = lambda _: {},
    ) -> None:
        """`kept` gives the start values of the knobs that are kept for a model of this name."""
        self._models = models
        self._kept = kept
        self._extensions = extensions or Extensions()

    def session(self) -> ModelSession:
        """The model that is loaded now, for the whole of one request. Raises: NoModelLoaded."""
        model = self._models.current()
        return ModelSession(model, self._extensions, self._kept(model.name))

    def queue(self) -> Sequence[QueueEntry]:
        """Every request that the loaded model has not ended, whoever asked: those that run, then those that wait.

        Setting the `cancel` of one ends it within a token.
        """
        model = self._models.loaded
        return model.queue() if model else ()
