"""Chooses the model for a request that names one: a loaded one, one that is loaded for it, or another one.

It must not know what the request is about.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from errors import ModelNotLoaded, UnknownName
from loaders.base import Model
from modules.library.model_catalog import ModelCatalog
from modules.library.model_leases import ModelLease
from modules.library.model_manager import ModelManager


@dataclass(frozen=True)
class RoutingRules:
    """From the flags. `on_demand`: models that are not loaded are loaded; `strict`: no other one is used; `embeddings`:
    the name of the model for embeddings, "" for the default one.
    """

    on_demand: bool = False
    strict: bool = False
    embeddings: str = ""


class ModelRouter:
    """May be used from several threads."""

    def __init__(self, models: ModelManager, catalog: ModelCatalog, rules: RoutingRules) -> None:
        self._models = models
        self._catalog = catalog
        self._rules = rules

    @property
    def several(self) -> bool:
        """Whether there is a choice: if not, a request's `model` is ignored."""
        return self._models.limits.count > 1 or self._rules.on_demand or self._rules.strict

    @property
    def models(self) -> list[Model]:
        """The loaded ones, the default one first."""
        return [each.model for each in self._models.memory.all]

    def ready(self, name: str = "") -> bool:
        """Whether `choose` need not wait: for a load, or for a lost model."""
        memory = self._models.memory
        if not name or not self.several:
            return memory.default is not None
        found = memory.find(name)
        if found:
            return not found.leaving
        return memory.default is not None and not self._rules.on_demand and not self._models.returns(name)

    def names(self) -> list[str]:
        """The models that a request may name: loaded ones first, then those that would be loaded for it.

        These are the names in the list of models, whether a model is loaded or not.
        """
        memory = self._models.memory
        ready = [*(each.name for each in memory.all), *(each.plan.name for each in memory.all_idle)]
        others = self._catalog.names() if self._rules.on_demand else []
        return [*ready, *(name for name in others if name not in ready)]

    def choose(self, name: str = "") -> ModelLease:
        """The model for a request, loaded if necessary, and held for it. Raises: UserError."""
        if not name or not self.several:
            return self._models.lease_default()
        return self._named(name, self._models.lease_default)

    def loaded(self, name: str = "") -> Model | None:
        """The model that `choose` would return, if it is in memory. It is not held, and does not count as used."""
        memory = self._models.memory
        entry = memory.find(name) if name and self.several else memory.default
        return entry.model if entry and not entry.leaving else None

    def choose_for_embeddings(self, name: str = "") -> ModelLease:
        """As `choose`; if the flags name a model for embeddings, that is the default one, in addition to all others."""
        if not self._rules.embeddings:
            return self.choose(name)
        if name and self.several:
            return self._named(name, self._lease_for_embeddings, self._rules.embeddings)
        return (self._models.lease(name) if name else None) or self._lease_for_embeddings()

    def wait_for_others(self, model: Model, seconds: float) -> bool:
        """Wait until no other model is used, or at most this long; whether that is so."""
        until, leases = time.monotonic() + seconds, self._models.memory.leases
        others = [each for each in self.models if each is not model]
        return all(leases.wait(each, max(0.0, until - time.monotonic())) for each in others)

    # --- inside ---

    def _lease_for_embeddings(self) -> ModelLease:
        known = self._catalog.find(self._rules.embeddings).name
        return self._models.lease(known) or self._models.load_for_request(known, for_embeddings=True)

    def _named(self, name: str, default: Callable[[], ModelLease], default_name: str = "") -> ModelLease:
        """The model of this name; `default` gives the one for requests that name none, which may be named, too."""
        models = self._models
        if found := models.lease(name):
            return found
        why: ModelNotLoaded | UnknownName
        try:
            known = self._catalog.find(name).name
        except UnknownName as error:
            why = error
        else:
            if default_name and known == self._catalog.find(default_name).name:
                return default()
            # one that is about to be unloaded is loaded again: the caller is next in line
            if self._rules.on_demand or models.memory.idle(known) or models.memory.find(known):
                return models.load_for_request(known)
            why = ModelNotLoaded(known)
        if self._rules.strict:
            raise why
        lease = default()
        lease.note = f"{why} {lease.name} answered instead."
        return lease
