"""The entrance to the models in memory: a session for each request, and the queue of all of them.

It is the only place above `library` that asks which model answers, and it asks once per request. It must not know
what a request is about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from loaders.base import Model, QueueEntry
from modules.extensions import Extensions
from modules.generation.session import ModelSession
from modules.generation.yielding_work import YieldingWork
from modules.library.model_leases import ModelLease


class ModelSource(Protocol):
    """Provides the loaded model."""

    @property
    def loaded(self) -> Model | None:
        """The loaded model, or None."""
        ...

    def current(self) -> Model:
        """The loaded model. Raises: NoModelLoaded."""
        ...

    def forget(self, label: str) -> None:
        """Let no model, loaded or not, keep anything that was computed for this label."""
        ...


class Router(Protocol):
    """Chooses the model for a request."""

    @property
    def models(self) -> Sequence[Model]:
        """Those in memory."""
        ...

    def choose(self, name: str = "") -> ModelLease:
        """Raises: UserError."""
        ...

    def loaded(self, name: str = "") -> Model | None:
        """The one that would be chosen, if it is in memory; it is not held."""
        ...

    def choose_for_embeddings(self, name: str = "") -> ModelLease:
        """Raises: UserError."""
        ...

    def wait_for_others(self, model: Model, seconds: float) -> bool:
        """Wait until no other model in memory is used, or at most this long; whether that is so."""
        ...


class Generator:
    """Starts requests. May be used from several threads."""

    def __init__(
        self,
        models: ModelSource,
        extensions: Extensions | None = None,
        kept: Callable[[str], Mapping[str, Any]] = lambda _: {},
        router: Router | None = None,
    ) -> None:
        """`kept` returns the saved start values of the knobs for a model of this name. Without a `router` the
        loaded model answers every request.
        """
        self._models = models
        self._kept = kept
        self._router = router
        self._yielding = YieldingWork()
        #: What extensions do to every request that starts here; used by everything that builds prompts and replies.
        self.extensions = extensions or Extensions()

    def session(self, name: str = "") -> ModelSession:
        """A session with the model for one whole request: the one of this name, or the one that is loaded now.

        Raises: UserError.
        """
        return self._session(self._router.choose(name) if self._router else ModelLease(self._models.current()))

    def session_if_loaded(self, name: str = "") -> ModelSession | None:
        """As `session`, for work that nobody waits for: no model is loaded for it, and its own is not held."""
        model = self._router.loaded(name) if self._router else self._models.loaded
        if model is None:
            return None
        return ModelSession(model, self.extensions, self._kept(model.name), yielding=self._yielding)

    def wait_for_others(self, model: Model, seconds: float) -> bool:
        """Wait until no other model is used, or at most this long; whether that is so."""
        return self._router is None or self._router.wait_for_others(model, seconds)

    def embedding_session(self, name: str = "") -> ModelSession:
        """As `session`, for embeddings, which may have a model of their own. Raises: UserError."""
        return self._session(self._router.choose_for_embeddings(name)) if self._router else self.session(name)

    def queue(self) -> Sequence[QueueEntry]:
        """Every request that the models in memory have not ended, whoever asked: those that run, then those that wait.

        Setting the `cancel` of one ends it within a token.
        """
        models = self._router.models if self._router else [self._models.loaded]
        return [entry for model in models if model for entry in model.queue()]

    def forget(self, label: str) -> None:
        """Let no model, loaded or not, keep what was computed for requests of this label, in memory or on disk."""
        self._models.forget(label)

    def warm_labels(self) -> frozenset[str]:
        """The labels of requests whose states a model in memory keeps: who continues them need not wait."""
        models = self._router.models if self._router else [self._models.loaded]
        return frozenset[str]().union(*(model.warm_labels() for model in models if model))

    def _session(self, lease: ModelLease) -> ModelSession:
        return ModelSession(lease.model, self.extensions, self._kept(lease.model.name), lease, self._yielding)
