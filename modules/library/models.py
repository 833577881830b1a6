"""The one place that knows which model is in memory.

Loading happens in the caller's thread; anyone may look at `state` meanwhile, which is swapped as a whole. One load or
unload runs at a time. What goes wrong below becomes a sentence here, and the details go to the log.
This module must not know how a state is shown.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from errors import (
    InvalidInput,
    LoadCancelled,
    ModelBusy,
    ModelFileError,
    NoModelLoaded,
    Unavailable,
    UnknownName,
    UserError,
)
from loaders.base import Loader, Model, Progress
from loaders.forecast import Forecast
from loaders.params import LoadOptions
from modules.config.loader_names import loader_key
from modules.config.paths import Paths
from modules.library.last_model import Memory
from modules.library.model_settings import ModelSettings
from modules.library.shelf import Shelf, ShelfItem

log = logging.getLogger(__name__)

Phase = Literal["none", "loading", "loaded", "unloading"]

#: Brings a model onto the shelf before it is loaded: the demo model's download.
Obtain = Callable[[Progress], None]

_OBTAIN_SHARE = 0.9  # of the progress, when the model is fetched first


@dataclass(frozen=True)
class ModelState:
    """What is to be said about the model right now. `fraction` is from 0 to 1 while loading."""

    phase: Phase = "none"
    name: str = ""
    loader: str = ""
    fraction: float = 0.0
    doing: str = ""
    error: str = ""  # why the last load failed; empty again when another one begins
    notes: tuple[str, ...] = ()  # what was decided while loading, with the reasons


@dataclass(frozen=True)
class LoaderChoice:
    """A loader that can take a model; `missing` says what has to be installed before."""

    name: str
    score: int
    missing: str | None = None


class Models:
    """The model in memory, and the way in and out. `defaults` are the load options given by flags."""

    def __init__(
        self,
        paths: Paths,
        shelf: Shelf,
        model_settings: ModelSettings,
        loaders: Mapping[str, type[Loader]],
        defaults: Mapping[str, Any],
        *,
        preferred_loader: str = "",
    ) -> None:
        self._shelf = shelf
        self._settings = model_settings
        self._loaders = loaders
        self._defaults = dict(defaults)
        self._preferred = self._known_loader(preferred_loader) if preferred_loader else ""
        self._memory = Memory(paths)
        self._work = threading.Lock()  # held for the whole of a load or unload
        self._swap = threading.Lock()  # held for the moment of changing what follows
        self._state = ModelState()
        self._model: Model | None = None
        self._cancel = threading.Event()
        self._closing = threading.Event()  # for good: the program ends

    # --- looking ---

    @property
    def state(self) -> ModelState:
        """How things stand: a snapshot."""
        with self._swap:
            return self._state

    @property
    def loaded(self) -> Model | None:
        """The model, if one is ready."""
        with self._swap:
            return self._model

    def current(self) -> Model:
        """The model. Raises: NoModelLoaded."""
        model = self.loaded
        if model is None:
            raise NoModelLoaded
        return model

    def named(self, name: str, loader: str = "") -> Model | None:
        """The model in memory if it is the one of this name (and loader), as the list of models has it."""
        with self._swap:
            state = self._state
            return self._model if state.name == name and loader in ("", state.loader) else None

    def loaders_for(self, name: str) -> list[LoaderChoice]:
        """The loaders that can take this model, best first. Raises: UnknownName."""
        return self._choices(self._shelf.find(name))

    def default_options(self, name: str, loader: str) -> tuple[LoadOptions, str]:
        """The options that this model would be loaded with, and where they come from.

        From the weakest to the strongest: the loader's own defaults, models/config.yaml, the flags of this start, what
        the user saved for the model. A file of these that cannot be read is passed over, and the text says so.
        Raises: UnknownName, InvalidInput.
        """
        name = self._shelf.find(name).name
        loader = self._known_loader(loader)
        saved, reason = self._settings.options_for(name, loader)
        flags = self._flag_options(loader)
        values = {**saved, **flags, **self._settings.user_options_for(name, loader)}
        reasons = [reason] if reason else []
        if flags:
            reasons.append("from the flags: " + ", ".join(flags))
        origin = "; ".join(reasons) or "the loader's defaults"
        problems = [each.rstrip(".") for each in self._settings.problems()]
        return self._loaders[loader].Options.parse(values), "; ".join([origin, *problems])

    def save_options(self, name: str, loader: str, options: Mapping[str, Any]) -> None:
        """Keep loader and options for this model. Raises: UnknownName, InvalidInput, BadFile."""
        name = self._shelf.find(name).name
        loader = self._known_loader(loader)
        checked = self._loaders[loader].Options.parse(options)
        try:
            self._settings.save(name, loader, checked.model_dump())
        except OSError as error:
            raise Unavailable(
                f"The settings cannot be saved ({error.strerror}). Make room, or allow writing to the models folder."
            ) from None

    def forecast(self, name: str, loader: str | None, options: Mapping[str, Any]) -> Forecast | None:
        """What the model will take with these options, by device; None where that is not known.

        May take a second. Raises: UnknownName, InvalidInput, ModelFileError.
        """
        item = self._shelf.find(name)
        kind = self._loaders[self._known_loader(loader)] if loader else self._loaders[self.loaders_for(name)[0].name]
        return None if item.problem else kind.forecast(item.path, kind.Options.parse(options))

    def keep_template(self, text: str) -> str:
        """Keep an instruction template for the model in memory ("": none). Returns the model's name.

        Raises: NoModelLoaded, BadFile, Unavailable.
        """
        name = self.current().name
        try:
            self._settings.keep(name, {"instruction_template_str": text or None, "instruction_template": None})
        except OSError as error:
            raise Unavailable(
                f"The template cannot be kept ({error.strerror}). Make room, or allow writing to the models folder."
            ) from None
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
        """Load a model, in this thread; the one in memory leaves first. Returns when it is ready.

        `options` replace single values of `default_options`. `obtain` brings the model onto the shelf before.
        `flags_win`: at the start of the program its flags count more than what was saved for the model.
        A request that makes no sense (unknown name, bad option, missing package) leaves the old model where it is.
        Raises: UserError.
        """
        with self._working():
            before = self.state
            start = 0.0
            try:
                if obtain:
                    start = _OBTAIN_SHARE
                    self._set(ModelState("loading", name))
                    obtain(self._progress(0.0, start))
                item = self._shelf.find(name)
                if item.problem:
                    raise InvalidInput(item.problem)
                chosen = self._choose(item, loader)
                flags = self._flag_options(chosen) if flags_win else {}
                values = self._options(item.name, chosen, {**flags, **(options or {})})
            except BaseException as error:
                why = _words(error)
                self._set(replace(before, error=why))
                log.warning("%s was not loaded: %s", name, why, exc_info=not isinstance(error, UserError))
                raise
            return self._load(item, chosen, values, start)

    def cancel_load(self) -> None:
        """Ask the load that is under way to give up; without one, do nothing."""
        self._cancel.set()

    def unload(self) -> None:
        """Take the model out of memory; requests that run are ended. The next start will not load it by itself."""
        with self._working():
            self._unload()
            self._set(ModelState())
            self._memory.forget()

    def close(self) -> None:
        """End with the program: a load is cancelled and awaited, the model is closed but stays remembered."""
        self._closing.set()
        with self._work:
            self._unload()
            self._set(ModelState())

    # --- inside ---

    @contextmanager
    def _working(self) -> Iterator[None]:
        if not self._work.acquire(blocking=False):
            raise ModelBusy("unloaded" if self.state.phase == "unloading" else "loaded")
        try:
            self._cancel.clear()
            if self._closing.is_set():
                raise LoadCancelled
            yield
        finally:
            self._work.release()

    def _load(self, item: ShelfItem, loader: str, options: LoadOptions, start: float) -> Model:
        self._unload()
        self._set(ModelState("loading", item.name, loader, start, "starting"))
        self._memory.loading(item.name)
        began = time.monotonic()
        try:
            model = self._loaders[loader].load(item.path, options, self._progress(start, 1.0))
            if self._gives_up():
                model.close()
                raise LoadCancelled
        except UserError as error:
            self._failed(item.name, str(error))
            raise
        except Exception as error:
            log.exception("Loading %s failed", item.name)
            sentence = ModelFileError(item.name, _engine_words(error))
            self._failed(item.name, str(sentence))
            raise sentence from error
        except BaseException:
            self._failed(item.name, "Loading was interrupted. No model is loaded.")
            raise
        notes = (*model.notes, *self._settings.problems())
        with self._swap:
            self._model = model
            self._state = ModelState("loaded", item.name, loader, 1.0, notes=notes)
        self._memory.loaded(item.name, loader)
        log.info("Loaded %s with %s in %.1f s", item.name, loader, time.monotonic() - began)
        for note in notes:
            log.info("  %s", note)
        return model

    def _unload(self) -> None:
        with self._swap:
            model, self._model = self._model, None
            if model is None:
                return
            name = self._state.name
            self._state = replace(self._state, phase="unloading", fraction=0.0, doing="giving memory back", notes=())
        try:
            model.close()
        except Exception:
            log.exception("Closing %s failed", name)
        log.info("Unloaded %s", name)

    def _failed(self, name: str, why: str) -> None:
        self._set(ModelState(error=why))
        self._memory.settled()
        log.warning("%s was not loaded: %s", name, why)

    def _progress(self, start: float, end: float) -> Progress:
        def report(fraction: float, doing: str) -> bool:
            with self._swap:
                if self._state.phase == "loading":
                    done = start + (end - start) * min(1.0, max(0.0, fraction))
                    self._state = replace(self._state, fraction=done, doing=doing)
            return not self._gives_up()

        return report

    def _gives_up(self) -> bool:
        return self._cancel.is_set() or self._closing.is_set()

    def _set(self, state: ModelState) -> None:
        with self._swap:
            self._state = state

    def _choices(self, item: ShelfItem) -> list[LoaderChoice]:
        scores = {name: loader.accepts(item.path) for name, loader in self._loaders.items()}
        names = sorted((name for name, score in scores.items() if score > 0), key=lambda name: -scores[name])
        return [LoaderChoice(name, scores[name], self._loaders[name].missing()) for name in names]

    def _choose(self, item: ShelfItem, wanted: str | None) -> str:
        """The loader asked for, else the saved one, else that of the flags, else the best that is installed."""
        if wanted:
            return self._installed(self._known_loader(wanted))
        choices = self._choices(item)
        names = [choice.name for choice in choices]
        saved = self._settings.loader_for(item.name)
        for name in (self._lookup(saved) if saved else "", self._preferred):
            if name in names:
                return self._installed(name)
        ready = [choice.name for choice in choices if choice.missing is None]
        if ready:
            return ready[0]
        if choices:
            return self._installed(choices[0].name)
        reasons = [why for loader in self._loaders.values() if (why := loader.refuses(item.path))]
        raise ModelFileError(
            item.name, reasons[0] if reasons else "no loader here can take it. A GGUF version of the model will do."
        )

    def _installed(self, name: str) -> str:
        missing = self._loaders[name].missing()
        if missing:
            raise Unavailable(missing)
        return name

    def _options(self, name: str, loader: str, given: Mapping[str, Any]) -> LoadOptions:
        defaults, _ = self.default_options(name, loader)
        spellings = type(defaults).spellings()
        strangers = [key for key in given if key not in spellings]
        if strangers:
            raise InvalidInput(f"{loader} has no load option {', '.join(strangers)}. It has: {', '.join(spellings)}.")
        options = defaults.changed(**{spellings[key]: value for key, value in given.items()}) if given else defaults
        self._check_start_only(loader, options.model_dump())  # whatever the value's spelling was
        return options

    def _check_start_only(self, loader: str, values: Mapping[str, Any]) -> None:
        """What lets others' code run is a matter of the start: no saved file and no request can switch it on."""
        flags = self._flag_options(loader)
        for name, knob in self._loaders[loader].Options.knobs().items():
            if knob.start_only and values.get(name, knob.default) not in (knob.default, flags.get(name)):
                raise InvalidInput(
                    f"{name} can be switched on at the start alone: write {knob.flag} into CMD_FLAGS.txt and start the "
                    "program again."
                )

    def _flag_options(self, loader: str) -> dict[str, Any]:
        spellings = self._loaders[loader].Options.spellings()
        return {spellings[key]: value for key, value in self._defaults.items() if key in spellings}

    def _known_loader(self, name: str) -> str:
        found = self._lookup(name)
        if not found:
            raise UnknownName("loader", name, self._loaders)
        return found

    def _lookup(self, name: str) -> str:
        """The loader's own name for a loose spelling; "" when there is none."""
        return next((known for known in self._loaders if loader_key(known) == loader_key(name)), "")


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, UserError) else "It did not work; the log has the details."


def _engine_words(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory. Choose a smaller n_ctx, or a smaller model."
    detail = str(error).strip().splitlines()
    told = f": {detail[0][:200]}" if detail else ""
    return f"its loader gave up ({type(error).__name__}{told}). The log has the details."
