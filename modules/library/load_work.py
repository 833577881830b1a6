"""The steps of all loads and unloads: check a model, load it, unload it, restore those that were unloaded for it.

The caller makes sure that only one operation runs at a time. It must not know why a model is loaded.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from errors import LoadCancelled, ModelFileError, ModelsInUse, UserError
from loaders.base import Loader, Lora, Model, Progress
from loaders.process import LoadFunction
from modules.library.last_model import LastModelFile
from modules.library.load_errors import describe_loader_error
from modules.library.load_specs import LoadSpec
from modules.library.model_memory import IdleModel, LoadedModel, ModelMemory
from modules.library.model_settings import ModelSettings
from modules.library.model_state import ModelState
from modules.library.recovery import ReturningModel, restore_loras

log = logging.getLogger(__name__)

LONGEST = 600.0  # seconds that a request waits until the models to be unloaded for it are not in use
_LOOK = 0.1  # seconds between two checks whether that is cancelled


@dataclass(frozen=True)
class UnloadedModel:
    """A model that was unloaded, how to load it again, and whether it was the default one."""

    idle: IdleModel
    default: bool


class LoadWork:
    """Loads and unloads in the caller's thread. `on_lost` is called with a model that ended by itself, and why."""

    def __init__(
        self,
        memory: ModelMemory,
        settings: ModelSettings,
        loaders: Mapping[str, type[Loader]],
        last_model: LastModelFile,
        load: LoadFunction,
        on_lost: Callable[[LoadedModel, str], None],
    ) -> None:
        self._memory = memory
        self._settings = settings
        self._loaders = loaders
        self._last_model = last_model
        self._load_model = load
        self._on_lost = on_lost
        self._closing = threading.Event()  # for good: the program is ending
        self._cancels = 0  # how often something was cancelled
        self._mark = 0  # what of that was before the running operation
        self.plan: LoadSpec | None = None  # of the last load

    # --- cancelling ---

    @property
    def mark(self) -> int:
        """A moment: `begin(mark)` counts what is cancelled from then on."""
        return self._cancels

    @property
    def closing(self) -> bool:
        """Whether the program is ending."""
        return self._closing.is_set()

    @property
    def given_up(self) -> bool:
        """Whether the operation is to end."""
        return self._cancels != self._mark or self.closing

    def begin(self, mark: int | None = None) -> None:
        """An operation begins. What was cancelled before it does not count, or before `mark`. Raises: LoadCancelled if
        the program is ending.
        """
        self._mark = self._cancels if mark is None else mark
        if self.closing:
            raise LoadCancelled

    def cancel(self) -> None:
        """Cancel the running operation, if it is a load."""
        self._cancels += 1

    def close(self) -> None:
        """Cancel the running operation, and all that would come."""
        self._closing.set()

    # --- loading ---

    def check(self, plan: LoadSpec, start: float = 0.0) -> None:
        """Refuse what cannot be loaded, while the models that would be unloaded for it are still there.

        Raises: UserError.
        """
        self._memory.set_state(ModelState("loading", plan.name, plan.loader, start, "checking the file"))
        try:
            self._loaders[plan.loader].check(plan.item.path, plan.options, self.progress(start, start))
        except UserError:
            raise
        except Exception:  # whatever it is, the load will show it
            log.debug("Checking %s", plan.name, exc_info=True)

    def load(
        self,
        plan: LoadSpec,
        start: float = 0.0,
        *,
        returning: ReturningModel | None = None,
        loras: Sequence[Lora] = (),
        default: bool = True,
        for_embeddings: bool = False,
    ) -> Model:
        """Load a model. `returning`: what it was before, if it is loaded again by itself; `loras`: adapters that it had
        before, if a request loads it again. Raises: UserError.
        """
        again = returning.sentence if returning else ""
        self.plan = plan
        self._memory.set_state(ModelState("loading", plan.name, plan.loader, start, "starting", again=again))
        self._last_model.loading(plan.name)
        began = time.monotonic()
        try:
            kind, progress = self._loaders[plan.loader], self.progress(start, 1.0)
            model = self._load_model(kind, plan.item.path, plan.options, progress)
            with self._closed_if_given_up(model):
                restored = (returning.restore(model),) if returning else restore_loras(model, loras)
            if self.given_up:
                model.close()
                raise LoadCancelled
        except LoadCancelled:
            others = self._memory.default
            sentence = LoadCancelled(others.name if others else "")
            self._failed(plan.name, str(sentence))
            raise sentence from None
        except UserError as error:
            self._failed(plan.name, str(error))
            raise
        except Exception as error:
            log.exception("Loading %s failed", plan.name)
            failed = ModelFileError(plan.name, describe_loader_error(error))
            self._failed(plan.name, str(failed))
            raise failed from error
        except BaseException:
            self._failed(plan.name, "Loading was interrupted. No model is loaded.")
            raise
        if model.name in (plan.item.path.name, plan.item.path.stem):  # of one on a server it is the server's
            model.name = plan.name
        notes = (*restored, *model.notes, *self._settings.problems())
        entry = LoadedModel(plan, model, notes, for_embeddings)
        if self._memory.add(entry, default=default):
            self._last_model.loaded(plan.name, plan.loader)
        else:
            self._last_model.finish_loading()
        self._memory.reset_state()
        log.info("Loaded %s with %s in %.1f s", plan.name, plan.loader, time.monotonic() - began)
        for note in notes:
            log.info("  %s", note)
        model.on_lost(lambda why: self._on_lost(entry, why))
        return model

    def restore(self, left: Sequence[UnloadedModel], failed: str, error: UserError) -> None:
        """Load those again, once, that were unloaded for `failed`; the error says what became of them."""
        for each in sorted(left, key=lambda each: each.default):
            plan = each.idle.plan
            returning = ReturningModel(plan.name, f"{failed} could not be loaded.", each.idle.loras)
            try:
                self.load(plan, returning=returning, default=each.default, for_embeddings=each.idle.for_embeddings)
            except LoadCancelled:
                error.add(f"Loading {plan.name} again was cancelled.")
                break
            except UserError as again:
                error.add(f"{plan.name} could not be loaded again either ({str(again).rstrip('.')}).")
            else:
                error.add(f"{plan.name} is loaded again.")
        self._memory.reset_state(str(error))

    def progress(self, start: float, end: float) -> Progress:
        """Shows the progress of a load as this part of the whole, and tells it whether to continue."""

        def report(fraction: float, doing: str) -> bool:
            self._memory.set_progress(start + (end - start) * min(1.0, max(0.0, fraction)), doing)
            return not self.given_up

        return report

    # --- unloading ---

    def unload(self, entry: LoadedModel, wait: float = 0.0) -> UnloadedModel | None:
        """Unload it, if it is still loaded; running requests are ended, after this many seconds at the earliest."""
        default = entry is self._memory.default
        if not self._memory.remove(entry, _unloading(entry)):
            return None
        if wait > 0:
            self._memory.leases.wait(entry.model, wait)
        return UnloadedModel(self.release(entry), default)

    def unload_unused(self, entry: LoadedModel) -> IdleModel:
        """Unload it when it is not in use; from now on, requests cannot choose it by name.

        Raises: ModelsInUse, LoadCancelled.
        """
        until = time.monotonic() + LONGEST
        entry.leaving = True
        try:
            while (left := until - time.monotonic()) > 0:
                if self.given_up:
                    raise LoadCancelled(entry.name)
                if self._memory.leases.wait(entry.model, min(left, _LOOK)) and (
                    self._memory.remove(entry, _unloading(entry), unused=True) or entry not in self._memory.all
                ):
                    return self.release(entry)
        finally:
            entry.leaving = False
        raise ModelsInUse(entry.name)

    def unload_if_unused(self, entry: LoadedModel) -> bool:
        """Unload it unless it is in use; the next request that needs it loads it again. Returns whether it left."""
        if not self._memory.remove(entry, _unloading(entry), unused=True, idle=_idle(entry)):
            return False
        self.release(entry)
        self._memory.reset_state()
        return True

    def release(self, entry: LoadedModel) -> IdleModel:
        """Close it. Returns how to load it again."""
        idle = _idle(entry)
        try:
            entry.model.close()
        except Exception:
            log.exception("Closing %s failed", entry.name)
        log.info("Unloaded %s", entry.name)
        return idle

    # --- inside ---

    @contextmanager
    def _closed_if_given_up(self, model: Model) -> Iterator[None]:
        """If the load is cancelled meanwhile, close the model at once: that ends whatever it is doing."""
        over = threading.Event()

        def watch() -> None:
            while not (self.given_up or over.wait(_LOOK)):
                pass
            if self.given_up:
                model.close()

        watching = threading.Thread(target=watch, name="cancelling", daemon=True)
        watching.start()
        try:
            yield
        finally:
            over.set()
            watching.join()

    def _failed(self, name: str, why: str) -> None:
        self._memory.reset_state(why)
        self._last_model.finish_loading()
        if not self.closing:  # the program ends for another reason, which is told
            log.warning("Could not load %s: %s", name, why)


def _idle(entry: LoadedModel) -> IdleModel:
    return IdleModel(entry.plan, entry.model.name, tuple(entry.model.loras), entry.for_embeddings)


def _unloading(entry: LoadedModel) -> ModelState:
    return ModelState("unloading", entry.name, entry.plan.loader, doing="releasing memory")
