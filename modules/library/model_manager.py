"""The only module that loads and unloads models.

Loading happens in the caller's thread; `state` can be read meanwhile and is swapped as a whole. One load or unload runs
at a time. Errors of loaders become sentences, and the details go to the log. This module must not know how a state is
shown, or which model a request asks for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from errors import LoadCancelled, ModelBusy, NoModelLoaded, OverModelMemory, UnknownName, UserError
from loaders.base import Loader, Model
from loaders.params import LoadOptions
from loaders.process import LoadFunction, load_in_this_process
from modules.config.paths import Paths
from modules.library.idle_timer import describe_minutes
from modules.library.last_model import LastModelFile
from modules.library.load_errors import describe_failure
from modules.library.load_specs import LoadSpec, LoadSpecs
from modules.library.load_work import LONGEST, LoadWork
from modules.library.model_catalog import ModelCatalog, ModelEntry
from modules.library.model_leases import ModelLease
from modules.library.model_memory import IdleModel, LoadedModel, ModelLimits, ModelMemory
from modules.library.model_settings import ModelSettings
from modules.library.model_state import ModelState, Obtain
from modules.library.recovery import Recovery, ReturningModel

log = logging.getLogger(__name__)

_OBTAIN_SHARE = 0.9  # of the progress, if the model is downloaded first
_ENDING = 2.0  # seconds that a load may take after it has reported that the model is loaded
_CANCELLING = 10.0  # seconds that a load which is cancelled may take to end


class ModelManager(LoadSpecs):
    """The loaded models, and how to load and unload them. `defaults` are the load options given by flags."""

    def __init__(
        self,
        paths: Paths,
        catalog: ModelCatalog,
        model_settings: ModelSettings,
        loaders: Mapping[str, type[Loader]],
        defaults: Mapping[str, Any],
        *,
        preferred_loader: str = "",
        load: LoadFunction = load_in_this_process,
        recovery: Recovery | None = None,
        limits: ModelLimits | None = None,
    ) -> None:
        super().__init__(catalog, model_settings, loaders, defaults, preferred_loader=preferred_loader)
        self.memory = ModelMemory(catalog.means)
        self.limits = limits or ModelLimits()
        self._recovery = recovery or Recovery()
        self._last_model = LastModelFile(paths)
        self._loading = LoadWork(self.memory, model_settings, loaders, self._last_model, load, self._lost)
        self._work = threading.Lock()  # held for the whole of a load or unload
        self._serving = False  # whether that is done for a request

    # --- looking ---

    @property
    def state(self) -> ModelState:
        """A snapshot of the current state; with several models, that of the default one or of a running operation."""
        return self.memory.state

    @property
    def loaded(self) -> Model | None:
        """The model for requests that name none, if one is loaded."""
        entry = self.memory.default
        return entry.model if entry else None

    def current(self) -> Model:
        """The model; waits for one that was lost, loads one that was unloaded as idle. Raises: UserError."""
        return self.lease_default().model

    def lease_default(self) -> ModelLease:
        """`current`, held as long as the returned object exists. Raises: UserError."""
        found = self.memory.lease_default()
        if found is None:
            self._recovery.wait()
            found = self.memory.lease_default()
        if found is None and self._serving:
            with self._working(LONGEST):  # one model is being replaced by another one right now
                found = self.memory.lease_default()
        if found is None and (idle := self.memory.all_idle):
            found = self.load_for_request(idle[0].plan.name)
        if found is None:
            raise NoModelLoaded(loading=self.state.phase == "loading", why=self.state.error)
        return found

    def returns(self, name: str) -> bool:
        """Whether the model with this name was lost and is being loaded again."""
        return any(self._catalog.means(name, each) for each in self._recovery.returning)

    def lease(self, name: str) -> ModelLease | None:
        """A lease of the loaded model with this name; one that is being loaded again is waited for. None without it."""
        found = self.memory.lease(name)
        if found is None and self.returns(name):
            self._recovery.wait()
            found = self.memory.lease(name)
        return found

    def named(self, name: str, loader: str = "") -> Model | None:
        """The loaded model with this name (and loader), as in the list of models."""
        for entry in self.memory.all:
            if entry.name == name and loader in ("", entry.plan.loader):
                entry.used = time.monotonic()
                return entry.model
        return None

    def shown(self, name: str, loader: str = "") -> LoadSpec:
        """As it is loaded, or being loaded, with this loader; else as it would be loaded. Raises: UserError."""
        name = self._catalog.find(name).name
        plans = [entry.plan for entry in self.memory.all]
        if self.state.phase == "loading" and self._loading.plan:
            plans.insert(0, self._loading.plan)
        for plan in plans:
            if plan.name == name and plan.loader == (loader or plan.loader) and plan.loader in self._loaders:
                return plan
        return super().shown(name, loader)

    def keep_template(self, text: str) -> str:
        """Save an instruction template for the loaded model ("": none). Returns the model's name.

        Raises: NoModelLoaded, BadFile, Unavailable.
        """
        name = self.current().name
        self._settings.keep(name, {"instruction_template_str": text or None, "instruction_template": None})
        return name

    # --- acting ---

    def load(
        self,
        name: str,
        loader: str | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        obtain: Obtain | None = None,
        flags_win: bool = False,
    ) -> Model:
        """Load a model, in this thread; models that must be unloaded for it are unloaded first. Returns when it is
        ready.

        `options` replace single values of `default_options`. `obtain` downloads the model into the models folder first.
        `flags_win`: at startup, flags override the model's saved settings. An invalid request (unknown name, bad
        option, missing package) or file does not change the loaded models; if the load fails all the same, those that
        were unloaded for it are loaded again, and the error says so. Raises: UserError.
        """
        with self._working():
            start = 0.0
            try:
                if obtain:
                    start = _OBTAIN_SHARE
                    self.memory.set_state(ModelState("loading", name))
                    obtain(self._loading.progress(0.0, start))
                plan = self.plan(name, loader, options, flags_win=flags_win)
                leaving = self._leaving_for(plan)
                if leaving:
                    self._loading.check(plan, start)
                    if self._loading.given_up:
                        raise LoadCancelled
            except BaseException as error:
                raise self._refused(name, error) from None
            self._recovery.forget(plan.name)
            left = [found for entry in leaving if (found := self._loading.unload(entry))]
            try:
                return self._loading.load(plan, start)
            except LoadCancelled:
                raise
            except UserError as error:
                if left:
                    self._loading.restore(left, plan.name, error)
                raise

    def load_for_request(self, name: str, *, for_embeddings: bool = False) -> ModelLease:
        """Load a model for a request, unless it is loaded by now. Models that must be unloaded for it finish their
        requests first; the default model stays the default, unless it is unloaded.

        `for_embeddings`: it is loaded in addition to the others, and not counted. Raises: UserError.
        """
        with self._working(LONGEST):
            if found := self.memory.lease(name):
                return found
            self._serving = True
            try:
                return self._serve(name, for_embeddings=for_embeddings)
            finally:
                self._serving = False

    def cancel_load(self, name: str = "") -> str:
        """Cancel a running load (of this model); returns the model's name, "" if there is none."""
        state = self.state
        if name and not (state.phase == "loading" and self._catalog.means(name, state.name)):
            return ""
        self._loading.cancel()  # also in the moments before: another model is being unloaded for it
        return state.name if state.phase == "loading" else ""

    def unload(self, name: str = "", *, wait: float = 0.0, cancelled: str = "") -> str:
        """Unload a model, or all if none is named. The next start will not load it automatically.

        New requests cannot use it any more; running ones are ended, after this many seconds at the earliest. If it is
        being loaded, that is cancelled; returns the name then. `cancelled`: the model whose load the caller has just
        cancelled for it. Raises: UnknownName if it is not loaded.
        """
        cancelled = self.cancel_load(name) or cancelled
        with self._working(_CANCELLING if cancelled or not name else None):
            leaving = self.memory.all
            if name:
                entry = self.memory.find(name)
                if entry is None and not cancelled and not self.memory.idle(name):
                    raise UnknownName("loaded model", name, [each.name for each in leaving])
                leaving = [entry] if entry else []
            for each in leaving:
                self._loading.unload(each, wait)
            self.memory.forget_idle(name)
            self.memory.reset_state(self.state.error if cancelled else "")
            if not self.loaded and not self.memory.all_idle:
                self._last_model.forget()
        return cancelled

    def unload_idle(self, seconds: float) -> None:
        """Unload models that have not been used for this long; the next request loads them again."""
        for entry in reversed(self.memory.all):  # the default one last: it is the first to come back
            if self.memory.leases.in_use(entry.model):
                entry.used = time.monotonic()
            if time.monotonic() - entry.used < seconds or not self._work.acquire(blocking=False):
                continue
            try:
                if self._loading.unload_if_unused(entry):
                    log.info("Unloading %s: not used for %s.", entry.name, describe_minutes(seconds / 60))
            finally:
                self._work.release()

    def forget(self, label: str) -> None:
        """Let no model, loaded or not, keep anything that was computed for this label (loaders/labels.py)."""
        for entry in self.memory.all:
            entry.model.forget(label)
        for loader in self._loaders.values():  # after that: what a model was just writing is there now
            loader.forget(label)

    def adopt(self, model: Model | None) -> None:
        """Make a model that was created elsewhere the loaded one, instead of all others, which are not closed."""
        self.memory.clear()
        if model is not None:
            options = getattr(model, "options", LoadOptions())
            plan = LoadSpec(ModelEntry(model.name, Path(model.name)), model.loader, options)
            self.memory.add(LoadedModel(plan, model))

    def close(self) -> None:
        """Shutdown: cancel a load and wait for it; close the models but keep them remembered."""
        self._loading.close()
        with self._work:
            for entry in self.memory.all:
                self._loading.unload(entry)
            self.memory.set_state(ModelState())

    # --- inside ---

    @contextmanager
    def _working(self, patience: float | None = None) -> Iterator[None]:
        """`patience`: seconds to wait for the current work to end; None: not, unless it is about to end."""
        if patience is None:
            patience = 0.0 if self.state.phase in ("loading", "unloading") else _ENDING
        if not self._work.acquire(timeout=patience):
            raise ModelBusy("unloaded" if self.state.phase == "unloading" else "loaded")
        try:
            self._loading.begin()
            yield
        finally:
            self._work.release()

    def _refused(self, name: str, error: BaseException) -> BaseException:
        """The error of a load that has not begun: what was loaded still is."""
        if isinstance(error, LoadCancelled):
            kept = self.memory.default
            error = LoadCancelled(kept.name if kept else "")
        why = describe_failure(error)
        self.memory.reset_state(why)
        if not self._loading.closing:  # the program ends for another reason, which is told
            log.warning("Could not load %s: %s", name, why, exc_info=None if isinstance(error, UserError) else error)
        return error

    def _leaving_for(self, plan: LoadSpec, *, for_embeddings: bool = False) -> list[LoadedModel]:
        """The models that must be unloaded. Raises: OverModelMemory if that is not enough."""
        needed = 0
        if self.limits.memory:
            known = self._loaders[plan.loader].forecast(plan.item.path, plan.options)
            needed = sum(each.total for each in known.devices) if known else plan.item.size
            if needed > self.limits.memory:
                raise OverModelMemory(plan.name, needed, self.limits.memory)
        return self.memory.leaving_for(plan, needed, self.limits, for_embeddings=for_embeddings)

    def _serve(self, name: str, *, for_embeddings: bool) -> ModelLease:
        before = self.memory.idle(name) or self._as_it_left(name, for_embeddings=for_embeddings)
        plan, for_embeddings = before.plan, before.for_embeddings
        leaving = self._leaving_for(plan, for_embeddings=for_embeddings)
        if leaving:
            try:
                self._loading.check(plan)
            except UserError as error:
                raise self._refused(name, error) from None
        left: list[IdleModel] = []
        try:
            left += map(self._loading.unload_unused, leaving)
            self._loading.load(plan, loras=before.loras, default=False, for_embeddings=for_embeddings)
        except BaseException as error:
            if left and isinstance(error, UserError):
                error.add(f"The next request loads {' and '.join(each.plan.name for each in left)} again.")
            self.memory.remember_idle(left)
            self.memory.reset_state(describe_failure(error))
            raise
        self.memory.remember_left([replace(each, usual=self._usual_plan(each.plan.name)) for each in left])
        found = self.memory.lease(plan.name)
        if found is None:  # it has ended already
            raise NoModelLoaded
        return found

    def _as_it_left(self, name: str, *, for_embeddings: bool) -> IdleModel:
        """How to load a model for a request: with the options with which it left for another one, unless its settings
        (or its file) were changed since then, and with its adapters.
        """
        usual = self.plan(name)
        left = self.memory.left(usual.name)
        plan = left.plan if left and left.usual == usual else usual
        return IdleModel(plan, usual.name, left.loras if left else (), for_embeddings)

    def _usual_plan(self, name: str) -> LoadSpec | None:
        try:
            return self.plan(name)
        except UserError:
            return None

    def _lost(self, entry: LoadedModel, why: str) -> None:
        """It has ended without being closed: load it again, in a separate thread."""
        sentence = f"{entry.name} ended unexpectedly: {why}."
        returning = ReturningModel(entry.name, sentence, tuple(entry.model.loras))
        default = entry is self.memory.default
        waiting = ModelState("loading", entry.name, entry.plan.loader, again=sentence)
        if self._loading.closing or entry not in self.memory.all:
            return
        mark = self._loading.mark
        again = self._recovery.begin(entry.name)  # first: who finds no model asks whether one is coming back
        if not self.memory.remove(entry, waiting if again else None, returns=again):
            if again:
                self._recovery.start(entry.name, lambda: None)
            return
        log.warning("%s", sentence)
        if not again:
            self.memory.reset_state(f"{sentence} It had just been reloaded. Load it manually.")
            return

        def recover() -> None:
            with self._work:
                try:
                    self._loading.begin(mark)
                    if not self._loading.given_up and self._has_room(entry):
                        self._loading.load(
                            entry.plan, returning=returning, default=default, for_embeddings=entry.for_embeddings
                        )
                    elif self.state is waiting:
                        self.memory.reset_state(sentence)
                finally:
                    if self.memory.forget_returning(entry.name):
                        self.memory.reset_state(self.state.error)

        self._recovery.start(entry.name, recover)

    def _has_room(self, entry: LoadedModel) -> bool:
        """Whether a model that was lost may come back: it has not already, and no other one must be unloaded for it."""
        try:
            leaving = self._leaving_for(entry.plan, for_embeddings=entry.for_embeddings)
        except OverModelMemory:
            return False
        return not leaving
