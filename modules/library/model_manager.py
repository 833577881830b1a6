"""The only module that loads and unloads models.

Loading happens in the caller's thread; `state` can be read meanwhile and is swapped as a whole. One load or unload runs
at a time. Errors of loaders become sentences here, and the details go to the log. This module must not know how a state
is shown, or which model a request asks for.
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

from errors import (
    LoadCancelled,
    ModelBusy,
    ModelFileError,
    ModelsInUse,
    NoModelLoaded,
    OverModelMemory,
    UnknownName,
    UserError,
)
from loaders.base import Loader, Model, Progress
from loaders.params import LoadOptions
from loaders.process import LoadFunction, load_in_this_process
from modules.config.paths import Paths
from modules.library.last_model import LastModelFile
from modules.library.load_errors import describe_failure, describe_loader_error
from modules.library.load_specs import LoadSpec, LoadSpecs
from modules.library.model_catalog import ModelCatalog, ModelEntry
from modules.library.model_leases import ModelLease
from modules.library.model_memory import IdleModel, LoadedModel, ModelLimits, ModelMemory
from modules.library.model_settings import ModelSettings
from modules.library.model_state import ModelState, Obtain
from modules.library.recovery import LostModel, Recovery

log = logging.getLogger(__name__)

_OBTAIN_SHARE = 0.9  # of the progress, if the model is downloaded first
_LONGEST = 600.0  # seconds that a request waits until the models to be unloaded for it are not in use
_ENDING = 2.0  # seconds that a load may take after it has reported that the model is loaded


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
        self.memory = ModelMemory()
        self.limits = limits or ModelLimits()
        self._load_model = load
        self._recovery = recovery or Recovery()
        self._last_model = LastModelFile(paths)
        self._work = threading.Lock()  # held for the whole of a load or unload
        self._serving = False  # whether that is done for a request
        self._cancel = threading.Event()
        self._closing = threading.Event()  # for good: the program is ending

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
            with self._working(wait=True):  # one model is being replaced by another one right now
                found = self.memory.lease_default()
        if found is None and (idle := self.memory.all_idle):
            found = self.load_for_request(idle[0].plan.name)
        if found is None:
            raise NoModelLoaded(loading=self.state.phase == "loading", why=self.state.error)
        return found

    def named(self, name: str, loader: str = "") -> Model | None:
        """The loaded model with this name (and loader), as in the list of models."""
        for entry in self.memory.all:
            if entry.name == name and loader in ("", entry.plan.loader):
                entry.used = time.monotonic()
                return entry.model
        return None

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
        option, missing package) does not change the loaded model. Raises: UserError.
        """
        with self._working():
            before = self.state
            start = 0.0
            try:
                if obtain:
                    start = _OBTAIN_SHARE
                    self.memory.set_state(ModelState("loading", name))
                    obtain(self._progress(0.0, start))
                plan = self.plan(name, loader, options, flags_win=flags_win)
                leaving = self._leaving_for(plan)
            except BaseException as error:
                why = describe_failure(error)
                self.memory.set_state(replace(before, error=why))
                log.warning("Could not load %s: %s", name, why, exc_info=not isinstance(error, UserError))
                raise
            self._recovery.forget(plan.name)
            for entry in leaving:
                self._unload(entry)
            return self._load(plan, start)

    def load_for_request(self, name: str, *, for_embeddings: bool = False) -> ModelLease:
        """Load a model for a request, unless it is loaded by now. Models that must be unloaded for it finish their
        requests first; the default model stays the default, unless it is unloaded.

        `for_embeddings`: it is loaded in addition to the others, and not counted. Raises: UserError.
        """
        with self._working(wait=True):
            if found := self.memory.lease(name):
                return found
            self._serving = True
            try:
                return self._serve(name, for_embeddings=for_embeddings)
            finally:
                self._serving = False

    def cancel_load(self) -> None:
        """Cancel a running load; without one, do nothing."""
        self._cancel.set()

    def unload(self, name: str = "", *, wait: float = 0.0) -> None:
        """Unload a model, or all if none is named. The next start will not load it automatically.

        New requests cannot use it any more; running ones are ended, after this many seconds at the earliest. Raises:
        UnknownName if it is not loaded.
        """
        with self._working():
            leaving = self.memory.all
            if name:
                entry = self.memory.find(name)
                if entry is None and not self.memory.idle(name):
                    raise UnknownName("loaded model", name, [each.name for each in leaving])
                leaving = [entry] if entry else []
            for each in leaving:
                self._unload(each, wait)
            self.memory.forget_idle(name)
            self.memory.reset_state()
            if not self.loaded:
                self._last_model.forget()

    def unload_idle(self, seconds: float) -> None:
        """Unload models that have not been used for this long; the next request loads them again."""
        for entry in reversed(self.memory.all):  # the default one last: it is the first to come back
            if self.memory.leases.in_use(entry.model):
                entry.used = time.monotonic()
            if time.monotonic() - entry.used < seconds or not self._work.acquire(blocking=False):
                continue
            try:
                if self.memory.remove(entry, _unloading(entry), unused=True):
                    self.memory.remember_idle([self._release(entry)])
                    self.memory.reset_state()
                    log.info("Unloading %s: not used for %.0f minutes.", entry.name, seconds / 60)
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
        self._closing.set()
        with self._work:
            for entry in self.memory.all:
                self._unload(entry)
            self.memory.set_state(ModelState())

    # --- inside ---

    @contextmanager
    def _working(self, *, wait: bool = False) -> Iterator[None]:
        busy = self.state.phase in ("loading", "unloading")  # otherwise, the current work is about to end
        if not self._work.acquire(timeout=_LONGEST if wait else 0.0 if busy else _ENDING):
            raise ModelBusy("unloaded" if self.state.phase == "unloading" else "loaded")
        try:
            self._cancel.clear()
            if self._closing.is_set():
                raise LoadCancelled
            yield
        finally:
            self._work.release()

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
        idle = self.memory.idle(name)
        plan = idle.plan if idle else self.plan(name)
        for_embeddings = idle.for_embeddings if idle else for_embeddings
        left = [self._unload_unused(entry) for entry in self._leaving_for(plan, for_embeddings=for_embeddings)]
        try:
            model = self._load(plan, default=False, for_embeddings=for_embeddings)
            if idle and idle.loras:
                model.set_loras(idle.loras)
        except BaseException:
            if not self.loaded:  # the next request finds the previous state
                self.memory.remember_idle(left)
                self.memory.reset_state(self.state.error)
            raise
        found = self.memory.lease(plan.name)
        if found is None:  # it has ended already
            raise NoModelLoaded
        return found

    def _load(
        self,
        plan: LoadSpec,
        start: float = 0.0,
        *,
        lost: LostModel | None = None,
        default: bool = True,
        for_embeddings: bool = False,
    ) -> Model:
        again = lost.sentence if lost else ""
        self.memory.set_state(ModelState("loading", plan.name, plan.loader, start, "starting", again=again))
        self._last_model.loading(plan.name)
        began = time.monotonic()
        try:
            kind, progress = self._loaders[plan.loader], self._progress(start, 1.0)
            model = self._load_model(kind, plan.item.path, plan.options, progress)
            if self._gives_up():
                model.close()
                raise LoadCancelled
            restored = (lost.restore(model),) if lost else ()
        except UserError as error:
            self._failed(plan.name, str(error))
            raise
        except Exception as error:
            log.exception("Loading %s failed", plan.name)
            sentence = ModelFileError(plan.name, describe_loader_error(error))
            self._failed(plan.name, str(sentence))
            raise sentence from error
        except BaseException:
            self._failed(plan.name, "Loading was interrupted. No model is loaded.")
            raise
        notes = (*restored, *model.notes, *self._settings.problems())
        entry = LoadedModel(plan, model, notes, for_embeddings)
        if self.memory.add(entry, default=default):
            self._last_model.loaded(plan.name, plan.loader)
        else:
            self._last_model.finish_loading()
        self.memory.reset_state()
        log.info("Loaded %s with %s in %.1f s", plan.name, plan.loader, time.monotonic() - began)
        for note in notes:
            log.info("  %s", note)
        model.on_lost(lambda why: self._lost(entry, why))
        return model

    def _lost(self, entry: LoadedModel, why: str) -> None:
        """It has ended without being closed: load it again, in a separate thread."""
        lost = LostModel(entry.name, why, tuple(entry.model.loras))
        default = entry is self.memory.default
        waiting = ModelState("loading", entry.name, entry.plan.loader, again=lost.sentence)
        if self._closing.is_set() or entry not in self.memory.all:
            return
        again = self._recovery.begin(entry.name)  # first: who finds no model asks whether one is coming back
        if not self.memory.remove(entry, waiting if again else None):
            if again:
                self._recovery.start(entry.name, lambda: None)
            return
        log.warning("%s", lost.sentence)
        if not again:
            self.memory.reset_state(f"{lost.sentence} It had just been reloaded. Load it manually.")
            return

        def recover() -> None:
            with self._work:
                several = self.limits.count > 1 and self.memory.find(entry.name) is None
                if self.state is waiting or several:  # otherwise another load was faster
                    self._cancel.clear()
                    self._load(entry.plan, lost=lost, default=default, for_embeddings=entry.for_embeddings)

        self._recovery.start(entry.name, recover)

    def _unload(self, entry: LoadedModel, wait: float = 0.0) -> None:
        """Unload it; running requests are ended, after this many seconds at the earliest."""
        if self.memory.remove(entry, _unloading(entry)):
            if wait > 0:
                self.memory.leases.wait(entry.model, wait)
            self._release(entry)

    def _unload_unused(self, entry: LoadedModel) -> IdleModel:
        """Unload it when it is not in use; from now on, requests cannot choose it by name. Raises: ModelsInUse."""
        until = time.monotonic() + _LONGEST
        entry.leaving = True
        while self.memory.leases.wait(entry.model, until - time.monotonic()):
            if self.memory.remove(entry, _unloading(entry), unused=True) or entry not in self.memory.all:
                return self._release(entry)
        entry.leaving = False
        raise ModelsInUse(entry.name)

    def _release(self, entry: LoadedModel) -> IdleModel:
        """Close it. Returns how to load it again."""
        idle = IdleModel(entry.plan, entry.model.name, tuple(entry.model.loras), entry.for_embeddings)
        try:
            entry.model.close()
        except Exception:
            log.exception("Closing %s failed", entry.name)
        log.info("Unloaded %s", entry.name)
        return idle

    def _failed(self, name: str, why: str) -> None:
        self.memory.reset_state(why)
        self._last_model.finish_loading()
        log.warning("Could not load %s: %s", name, why)

    def _progress(self, start: float, end: float) -> Progress:
        def report(fraction: float, doing: str) -> bool:
            self.memory.set_progress(start + (end - start) * min(1.0, max(0.0, fraction)), doing)
            return not self._gives_up()

        return report

    def _gives_up(self) -> bool:
        return self._cancel.is_set() or self._closing.is_set()


def _unloading(entry: LoadedModel) -> ModelState:
    return ModelState("unloading", entry.name, entry.plan.loader, doing="releasing memory")
