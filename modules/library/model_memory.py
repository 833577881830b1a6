"""The loaded models: which one is the default, which are in use, which must be unloaded for another one; and the state
to show.

Bookkeeping under one lock: it loads and closes nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from loaders.base import Lora, Model
from modules.library.load_specs import LoadSpec
from modules.library.model_catalog import is_named
from modules.library.model_leases import Leases, ModelLease
from modules.library.model_state import ModelState

_MOST_LEFT = 16  # models of which is remembered how they were when they left for another one


@dataclass(frozen=True)
class ModelLimits:
    """How many models may be loaded, and how many bytes they may take together (0: no limit)."""

    count: int = 1
    memory: int = 0


@dataclass(eq=False)
class LoadedModel:
    """A loaded model. `for_embeddings`: it is only used for those, and is not counted."""

    plan: LoadSpec
    model: Model
    notes: tuple[str, ...] = ()
    for_embeddings: bool = False
    leaving: bool = False  # new requests can no longer choose it by name
    used: float = field(default_factory=time.monotonic)  # start of the last request

    @property
    def name(self) -> str:
        """Its name in the list of models."""
        return self.plan.name


@dataclass(frozen=True)
class IdleModel:
    """A model that was unloaded as idle and is loaded again, unchanged, by the next request that needs it; or one that
    left for another model. `usual`: how the latter would have been loaded by its settings when it left.
    """

    plan: LoadSpec
    model_name: str
    loras: tuple[Lora, ...] = ()
    for_embeddings: bool = False
    usual: LoadSpec | None = None


class ModelMemory:
    """May be used from several threads. `means`: whether a name means the model that has these names."""

    def __init__(self, means: Callable[..., bool] = is_named) -> None:
        self._means = means
        self.leases = Leases()
        self._guard = threading.Lock()
        self._state = ModelState()
        self._entries: list[LoadedModel] = []  # the last one that is not for embeddings is the default
        self._idle: dict[str, IdleModel] = {}
        self._left: dict[str, IdleModel] = {}
        self._away = ""  # the default model, if it has ended or left as idle and comes back: no other one replaces it

    # --- looking ---

    @property
    def state(self) -> ModelState:
        """The current state: a snapshot. With several models it is about the default one, or about the running
        operation.
        """
        with self._guard:
            return self._state

    @property
    def default(self) -> LoadedModel | None:
        """The model for requests that name none; None also while it is away and comes back."""
        with self._guard:
            return self._default()

    @property
    def all(self) -> Sequence[LoadedModel]:
        """All of them, the default one first."""
        with self._guard:
            return tuple(reversed(self._entries))

    @property
    def all_idle(self) -> Sequence[IdleModel]:
        """Those that were unloaded as idle, except for embeddings; the default one first, then the last one."""
        with self._guard:
            return self._all_idle()

    def find(self, name: str) -> LoadedModel | None:
        """The model with this name, the file's or the model's; case and ".gguf" do not matter, unless another model has
        exactly this name.
        """
        with self._guard:
            return self._find(name)

    def idle(self, name: str) -> IdleModel | None:
        """The one of this name that was unloaded as idle."""
        with self._guard:
            found = (each for each in self._idle.values() if self._means(name, each.plan.name, each.model_name))
            return next(found, None)

    def left(self, name: str) -> IdleModel | None:
        """How the model with this name in the list of models was when it left for another one."""
        with self._guard:
            return self._left.get(name)

    def lease(self, name: str) -> ModelLease | None:
        """A lease of the model with this name; None if it is not loaded, or waits to be unloaded."""
        with self._guard:
            entry = self._find(name)
            return self._lease(entry) if entry and not entry.leaving else None

    def lease_default(self) -> ModelLease | None:
        """A lease of the default model; None without one, or while it is away."""
        # also if it waits to be unloaded: the caller may be part of a request that holds it
        with self._guard:
            entry = self._default()
            return self._lease(entry) if entry else None

    def hold(self, model: Model) -> ModelLease:
        """A lease of this model, whether it is still loaded or not."""
        with self._guard:
            name = next((each.name for each in self._entries if each.model is model), "")
        return self.leases.begin(model, name)

    def leaving_for(
        self, plan: LoadSpec, needed: int, limits: ModelLimits, *, for_embeddings: bool
    ) -> list[LoadedModel]:
        """The models that must be unloaded before this one is loaded: itself, then the least recently used ones, and
        those for embeddings last, which only memory can make leave.

        `needed`: bytes that it will take, if memory is limited.
        """
        with self._guard:
            leaving = [each for each in self._entries if each.name == plan.name]
            staying = [each for each in self._entries if each not in leaving]
        staying.sort(key=lambda each: (each.for_embeddings, each.used))
        while staying and (
            (not for_embeddings and sum(not each.for_embeddings for each in staying) >= limits.count)
            or (limits.memory and needed + sum(each.model.memory for each in staying) > limits.memory)
        ):
            leaving.append(staying.pop(0))
        return leaving

    # --- changing ---

    def add(self, entry: LoadedModel, *, default: bool = True) -> bool:
        """Add a model, as the default one or after the default; returns whether it is the default now."""
        with self._guard:
            self._idle.pop(entry.name, None)
            self._left.pop(entry.name, None)
            default = default or entry.name == self._away
            self._away = "" if default else self._away
            self._entries.insert(len(self._entries) if default else 0, entry)
            return entry is self._default()

    def remove(
        self,
        entry: LoadedModel,
        state: ModelState | None = None,
        *,
        unused: bool = False,
        idle: IdleModel | None = None,
        returns: bool = False,
    ) -> bool:
        """Remove a model if it is loaded and (`unused`) not in use; returns whether it was removed.

        If it was the default, the most recently used one becomes the default, unless it comes back: `idle` says how the
        next request that needs it loads it again, and is known from this moment on; `returns`: it is being loaded
        again, until `forget_returning`.
        """
        with self._guard:
            if entry not in self._entries or (unused and self.leases.held(entry.model)):
                return False
            was_default = entry is self._default()
            self._entries.remove(entry)
            others = [each for each in self._entries if not each.for_embeddings]
            if was_default and others:
                following = max(others, key=lambda each: each.used)
                self._entries.remove(following)
                self._entries.append(following)
            if state:
                self._state = state
            if idle:
                self._idle[idle.plan.name] = idle
            if was_default and (idle or returns):
                self._away = entry.name
            return True

    def forget_returning(self, name: str) -> bool:
        """This one is not being loaded again any more; returns whether another one is the default because of that."""
        with self._guard:
            if name != self._away or name in self._idle:
                return False
            self._away = ""
            return True

    def remember_idle(self, models: Sequence[IdleModel]) -> None:
        """Let the next request that needs one of these load it again."""
        with self._guard:
            self._idle.update({each.plan.name: each for each in models})

    def remember_left(self, models: Sequence[IdleModel]) -> None:
        """Remember how these were when they left for another model; the last ones of them."""
        with self._guard:
            self._left.update({each.plan.name: each for each in models})
            for name in [*self._left][:-_MOST_LEFT]:
                del self._left[name]

    def forget_idle(self, name: str = "") -> None:
        """Do not load this one again automatically, or as it was, or none if no name is given."""

        def others(models: dict[str, IdleModel]) -> dict[str, IdleModel]:
            return {
                each: idle
                for each, idle in models.items()
                if name and not self._means(name, idle.plan.name, idle.model_name)
            }

        with self._guard:
            self._idle, self._left = others(self._idle), others(self._left)
            if not name or self._means(name, self._away):
                self._away = ""

    def clear(self) -> None:
        """Remove all of them without closing them."""
        with self._guard:
            self._entries.clear()
            self._idle.clear()
            self._left.clear()
            self._away = ""

    def set_state(self, state: ModelState) -> None:
        """Set the state."""
        with self._guard:
            self._state = state

    def set_progress(self, fraction: float, doing: str) -> None:
        """Set the progress of a load."""
        with self._guard:
            if self._state.phase == "loading":
                self._state = replace(self._state, fraction=fraction, doing=doing)

    def reset_state(self, error: str = "") -> None:
        """Nothing is in progress any more; `error`: why the last load failed."""
        with self._guard:
            entry, idle = self._default(), next((each.plan.name for each in self._all_idle()), "")
            if entry:
                self._state = ModelState("loaded", entry.name, entry.plan.loader, 1.0, error=error, notes=entry.notes)
            else:
                self._state = ModelState(error=error, idle=idle)

    # --- inside, under the lock ---

    def _default(self) -> LoadedModel | None:
        if self._away:
            return None
        return next((each for each in reversed(self._entries) if not each.for_embeddings), None)

    def _all_idle(self) -> tuple[IdleModel, ...]:
        found = [each for each in reversed(self._idle.values()) if not each.for_embeddings]
        return tuple(sorted(found, key=lambda each: each.plan.name != self._away))

    def _find(self, name: str) -> LoadedModel | None:
        exact = [each for each in self._entries if each.name == name]
        alike = [each for each in self._entries if self._means(name, each.name, each.model.name)]
        return next(iter([*exact, *alike]), None)

    def _lease(self, entry: LoadedModel) -> ModelLease:
        entry.used = time.monotonic()
        return self.leases.begin(entry.model, entry.name)
