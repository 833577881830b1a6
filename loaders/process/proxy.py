"""The contract of `loaders.base.Model` for a model in its own process.

`load_model` starts the process and waits for its model. It must not know which loader it is.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np
import numpy.typing as npt

from errors import EngineDied, LoadCancelled, ModelFileError, UserError
from loaders import memo
from loaders.base import Loader, Lora, Model, Progress, QueueEntry, Request, TokenStream
from loaders.params import LoadOptions
from loaders.process import wire
from loaders.process.model_process import ModelProcess
from loaders.process.remote_job import RemoteJob
from loaders.process.tokenizer import RemoteTokenizer

log = logging.getLogger(__name__)

_STARTING = "starting a process for it"
_PATIENCE = 60.0  # seconds until a started process must have sent a message: Python itself must start
_LOOK = 0.1  # seconds between two checks for cancellation of a load
_STEP = 10.0  # seconds that a caller waits until an engine has something done between two steps
_GLANCE = 0.2  # seconds for what is only a hint
_SHORT = 0.5  # seconds that the page waits for the queue: it asks again soon


def load_model(loader: type[Loader], path: Path, options: LoadOptions, progress: Progress) -> Model:
    """As `loader.load`, in a separate process; in this one if no process can be started, which is logged, or if the
    model does not compute here.

    If it is cancelled or fails, the process ends at once. Raises: UserError.
    """
    if not loader.computes:
        return loader.load(path, options, progress)
    if not progress(0.0, _STARTING):
        raise LoadCancelled
    process = None
    try:
        process = _start(path, progress)
        return _load(process, loader, path, options, progress) if process else loader.load(path, options, progress)
    except EngineDied as error:
        raise ModelFileError(path.name, f"its process ended: {error.reason}.") from None
    except BaseException:
        if process:
            process.kill()
        raise


def _start(path: Path, progress: Progress) -> ModelProcess | None:
    """A process for this model; None if none can be started, which is logged. Raises: EngineDied, LoadCancelled."""
    try:
        process = ModelProcess()
        try:
            _wait_for_hello(process, progress)
        except BaseException:
            process.kill()
            raise
    except _NoProcess as error:
        log.warning("%s is loaded into the program's own process: another one %s.", path.name, error)
        return None
    except OSError as error:
        log.warning("%s is loaded into the program's own process: no other one starts (%s).", path.name, error)
        return None
    return process


class _NoProcess(Exception):
    """A process that cannot be used; the text is a clause."""


def _wait_for_hello(process: ModelProcess, progress: Progress) -> None:
    """Raises: _NoProcess, EngineDied, LoadCancelled."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(Empty):
            step = process.steps.get(timeout=_LOOK)
            if isinstance(step, wire.HelloMessage):
                return
            if process.killed:  # loaded here, the model would bring the same upon the whole program
                raise EngineDied(process.reason)
            raise _NoProcess(f"ended at once ({process.reason})")
        if not progress(0.0, _STARTING):
            raise LoadCancelled
    raise _NoProcess(f"says nothing for {_PATIENCE:.0f} seconds")


def _load(process: ModelProcess, loader: type[Loader], path: Path, options: LoadOptions, progress: Progress) -> Model:
    """Raises: UserError, and what the loader raises."""
    level = logging.getLogger("loaders").getEffectiveLevel()
    results = memo.export_results()
    process.load(wire.LoadMessage(loader.__module__, loader.__name__, path.absolute(), options, level, results))
    said = (0.0, _STARTING)
    while True:
        try:
            step = process.steps.get(timeout=_LOOK)
        except Empty:
            step = wire.ProgressMessage(*said)
        match step:
            case wire.ReadyMessage():
                memo.import_results(step.results)
                return ProcessModel(process, step)
            case wire.FailedMessage(error=error):
                raise error
            case wire.ProgressMessage():
                said = step.fraction, step.doing
                if not progress(*said):
                    raise LoadCancelled


class ProcessModel(Model):
    """One process, one model. `set_loras` and similar calls wait in its queue."""

    def __init__(self, process: ModelProcess, ready: wire.ReadyMessage) -> None:
        self._process = process
        given = ready.model
        self.name: str = given["name"]
        self.loader: str = given["loader"]
        self.context_length: int = given["context_length"]
        self.memory: int = given["memory"]
        self.options: LoadOptions = given["options"]
        self.notes: Sequence[str] = given["notes"]
        self.unsupported: Mapping[str, str] = given["unsupported"]
        self.caveats: Mapping[str, str] = given["caveats"]
        self.template_place: str = given["template_place"]
        self.loras: Sequence[Lora] = given["loras"]
        self.tokenizer: RemoteTokenizer = RemoteTokenizer(process, ready.tokenizer)
        self._warning = ""
        self._warm: frozenset[str] = frozenset()
        self._queue: Sequence[QueueEntry] = ()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def generate(self, request: Request) -> TokenStream:
        """Raises: UserError, as the model itself does; EngineDied, ModelClosed."""
        job = RemoteJob(request)
        self._process.generate(job, _fields(request))
        return job

    def next_logits(self, request: Request) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self._process.call(
            "next_logits", request=_fields(request), cancel=request.cancel
        )
        return found

    def grammar_start(self, grammar: str) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = self._process.call("grammar_start", grammar)
        return found

    def score(
        self, ids: Sequence[int], cancel: threading.Event | None = None, start: int = 0
    ) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self._process.call("score", list(ids), start, cancel=cancel)
        return found

    def embed(self, texts: Sequence[Sequence[int]], cancel: threading.Event | None = None) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self._process.call("embed", [list(each) for each in texts], cancel=cancel)
        return found

    def set_loras(self, loras: Sequence[Lora]) -> None:
        changed: wire.LorasChanged = self._process.call("set_loras", tuple(loras))
        self.loras = changed.loras

    def forget(self, label: str) -> None:
        with contextlib.suppress(UserError, TimeoutError):  # it has ended, or does it later
            self._process.call("forget", label, seconds=_STEP)

    def warm_labels(self) -> frozenset[str]:
        with contextlib.suppress(UserError, TimeoutError):
            self._warm = self._process.call("warm_labels", seconds=_GLANCE)
        return self._warm

    def warning(self) -> str:
        with contextlib.suppress(UserError, TimeoutError):  # then the last value is used
            self._warning = str(self._process.call("warning", seconds=_SHORT))
        return self._warning

    def queue(self) -> Sequence[QueueEntry]:
        try:
            entries = self._process.call("queue", seconds=_SHORT)
        except TimeoutError:
            return self._queue
        except UserError:
            return ()
        self._queue = [self._entry(*each) for each in entries]
        return self._queue

    @property
    def saving(self) -> bool:
        return self._process.saving

    def on_lost(self, lost: Callable[[str], None]) -> None:
        self._process.on_lost(lost)

    def close(self) -> None:
        self._process.close()

    def _entry(self, key: int | None, entry: tuple[int, str, int, int, int, float]) -> QueueEntry:
        """With the event of the request; what the process does by itself cannot be cancelled."""
        return QueueEntry(*entry, self._process.cancel_event(key) or threading.Event())


def _fields(request: Request) -> dict[str, Any]:
    """The fields of a request that are sent; its processors stay here."""
    return {
        "ids": list(request.ids),
        "params": request.params,
        "max_tokens": request.max_tokens,
        "negative_ids": list(request.negative_ids),
        "logit_bias": dict(request.logit_bias),
        "alternatives": request.alternatives,
        "begun": request.begun,
        "label": request.label,
        "lasting": request.lasting,
        "yields": request.yields,
        "id": request.id,
    }
