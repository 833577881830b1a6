"""Training for the page: one training at a time, in its own process, and its state.

A separate process frees all memory when it ends, cannot crash the program, and lets chats continue. It is the command
line's (`python -m modules.training lora --json`); this module must not know torch, or how anything is shown.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from errors import Conflict, InvalidInput, NothingToDo, Unavailable
from modules.config.paths import Paths, safe_child
from modules.library.model_catalog import ModelCatalog
from modules.training.data.datasets import Datasets
from modules.training.data.folder import list_texts
from modules.training.data.formats import RowFormats
from modules.training.data.preview import DatasetPreview
from modules.training.lora.base_model import list_trainable
from modules.training.lora.checkpoints import CONFIG, WEIGHTS, adapter_base, can_resume
from modules.training.lora.events import TrainingCurve, TrainingEvent
from modules.training.lora.settings import PARAMETERS_FILE, LoraSettings

log = logging.getLogger(__name__)

_CODE = Path(__file__).resolve().parents[2]
_PATIENCE = 60  # seconds that shutdown waits for a training to save
_MOST_ORDERS = 32  # that wait to be read by the process

Orders: TypeAlias = "queue.SimpleQueue[str]"  # lines; "" is the end

Phase = Literal["none", "running", "stopping", "done", "failed"]


@dataclass(frozen=True)
class TrainingState:
    """The state of the current training, or of the last one."""

    phase: Phase = "none"
    settings: LoraSettings | None = None
    doing: str = ""
    notes: tuple[str, ...] = ()
    ready: TrainingEvent | None = None
    steps: TrainingCurve = TrainingCurve()
    evaluations: TrainingCurve = TrainingCurve()
    checkpoint: int = 0
    sample: TrainingEvent | None = None
    end: TrainingEvent | None = None
    error: str = ""

    @property
    def active(self) -> bool:
        return self.phase in ("running", "stopping")


class TrainingManager:
    """May be used from several threads."""

    def __init__(self, paths: Paths, shelf: ModelCatalog) -> None:
        self._paths, self._shelf = paths, shelf
        self.rows = Datasets(paths.training / "datasets")
        self.formats = RowFormats(paths.training / "formats")
        self._lock = threading.Lock()
        self._state = TrainingState()
        self._process: subprocess.Popen[str] | None = None
        self._orders: Orders = queue.SimpleQueue()  # of the process
        self._reader: threading.Thread | None = None

    # --- what there is ---

    def models(self) -> list[str]:
        """The models that can be a base."""
        return list_trainable(self._shelf)

    def default_base(self, loaded: str) -> str:
        """The default base model: the loaded one if it can be trained, else the only one, else none."""
        known = self.models()
        return loaded if loaded in known else known[0] if len(known) == 1 else ""

    def texts(self) -> list[str]:
        """Text files and folders of them, for raw text training."""
        return list_texts(self._paths.training / "datasets")

    def adapters(self) -> list[str]:
        """The adapters, finished or not, whose parameters are known."""
        return self._with(PARAMETERS_FILE)

    def finished(self) -> list[str]:
        """The adapters that can be loaded."""
        return [name for name in self._with(CONFIG) if (self._paths.loras / name / WEIGHTS).is_file()]

    def unfinished(self) -> list[str]:
        """The adapters whose training was stopped or interrupted and can be resumed, latest first; not the running
        one.
        """
        state = self.state
        runs = state.settings.lora_name if state.active and state.settings else None
        found = [name for name in self.adapters() if name != runs and can_resume(self._paths.loras / name)]
        return sorted(found, key=lambda name: -(self._paths.loras / name / PARAMETERS_FILE).stat().st_mtime)

    def parameters(self, name: str) -> LoraSettings:
        """An adapter's training parameters. Raises: InvalidName, BadFile."""
        return LoraSettings.read(safe_child(self._paths.loras, name) / PARAMETERS_FILE)

    def base_of(self, name: str) -> str:
        """An adapter's base model, from its parameters or its own configuration. Raises: UserError."""
        folder = safe_child(self._paths.loras, name)
        known = self.parameters(name).model if (folder / PARAMETERS_FILE).is_file() else ""
        if not (known := known or adapter_base(folder)):
            raise InvalidInput(
                f"{name} does not state its base model. Load that model in the Model tab, and apply the adapter there."
            )
        return self._shelf.find(known).name

    @property
    def state(self) -> TrainingState:
        """The current state: a snapshot."""
        with self._lock:
            return self._state

    # --- what can be done ---

    def preview(self, settings: LoraSettings) -> DatasetPreview:
        """A preview of a training with these settings. Takes seconds. Raises: UserError."""
        command = self._command("lora", "--json", "--look", "--parameters", "-")
        ran = subprocess.run(
            command, cwd=_CODE, input=_line(settings), capture_output=True, text=True, encoding="utf-8", check=False
        )
        said = ran.stdout.strip().splitlines()
        if failed := next(
            (event for line in said if (event := TrainingEvent.parse(line)) and event.kind == "failed"), None
        ):
            raise InvalidInput(failed.text)
        if ran.returncode:
            log.error("The data preview failed:\n%s", ran.stderr[-4000:])
        return DatasetPreview.parse(said[-1] if said else "")

    def start(self, settings: LoraSettings) -> None:
        """Start training. Errors in the settings or data are reported in the state. Raises: Conflict."""
        with self._lock:
            if self._state.active:
                raise Conflict("A training is already running. Stop it first, or wait for it to finish.")
            with (self._paths.logs / "training.log").open("w", encoding="utf-8") as last_words:
                self._process = subprocess.Popen(
                    self._command("lora", "--json", "--parameters", "-"), cwd=_CODE, text=True, encoding="utf-8",
                    bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=last_words,
                )  # fmt: skip
            self._state = TrainingState("running", settings, "Starting")
            self._orders = queue.SimpleQueue()
            self._orders.put(_line(settings))
            given = (self._process, self._orders)
            self._reader = threading.Thread(target=self._read, args=given, name="training", daemon=True)
            self._reader.start()
            threading.Thread(target=_write, args=given, name="training orders", daemon=True).start()

    def resume(self, name: str) -> None:
        """Resume a training from its last checkpoint with its own settings. Raises: InvalidName, BadFile, Conflict."""
        self.start(self.parameters(name).changed(lora_name=name, always_override=False))

    def stop(self) -> None:
        """Stop after the current micro batch; the adapter and a checkpoint are saved."""
        with self._lock:
            if self._state.active:
                self._state = replace(self._state, phase="stopping", doing="Stopping and saving")
            self._orders.put(json.dumps({"order": "stop"}) + "\n")

    def kill(self) -> None:
        """End the process at once, as a crash would: only its last checkpoint is kept."""
        if self._process:
            self._process.kill()

    def sample(self, prompt: str) -> None:
        """Request a sample from the half-trained model; it appears in the state. Raises: NothingToDo."""
        with self._lock:
            if not self._state.active:
                raise NothingToDo("No training is running. Load the adapter to try it.")
            if self._orders.qsize() >= _MOST_ORDERS:
                raise Conflict("Earlier prompts are still waiting. Wait until they are answered.")
            self._orders.put(json.dumps({"order": "sample", "prompt": prompt}) + "\n")

    def merge(self, base: str, adapter: str, target: str, strength: float) -> Path:
        """Merge the adapter into its base as a new model. Takes a while. Raises: UserError."""
        if not target.strip():
            raise InvalidInput("Enter a name for the merged model.")
        place = safe_child(self._paths.models, target.strip())
        self._made("merge", "--model", base, "--lora", adapter, "--to", target.strip(), "--strength", str(strength))
        return place

    def to_gguf(self, base: str, adapter: str) -> Path:
        """Export the adapter for llama.cpp, beside its folder. Raises: UserError."""
        place = safe_child(self._paths.loras, adapter, ".gguf")
        self._made("gguf", "--model", base, "--lora", adapter)
        return place

    def wait(self, seconds: float | None = None) -> TrainingState:
        """Wait until it is finished or the time is over; returns the state."""
        if self._reader:
            self._reader.join(seconds)
        return self.state

    def close(self) -> None:
        """Stop at shutdown: what was learned is saved; a process that does not end is killed."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        self.stop()
        self.wait(_PATIENCE)
        if process.poll() is None:
            self.kill()

    # --- inside ---

    def _with(self, file: str) -> list[str]:
        folders = self._paths.loras.iterdir() if self._paths.loras.is_dir() else ()
        return sorted((each.name for each in folders if (each / file).is_file()), key=str.casefold)

    def _made(self, *words: str) -> None:
        """Run a command of the command line in its own process. Raises: Unavailable, with its error."""
        ran = subprocess.run(self._command(*words), cwd=_CODE, capture_output=True, text=True, check=False)
        if ran.returncode:
            said = ran.stderr.strip().splitlines()
            log.error("%s failed:\n%s", words[0], ran.stderr[-4000:])
            known = ran.returncode == 2 and said
            raise Unavailable(said[-1] if known else f"{words[0]} failed unexpectedly. See the log for details.")

    def _command(self, *words: str) -> Sequence[str]:
        paths = self._paths
        places = ["--root", str(paths.root), "--model-dir", str(paths.models), "--lora-dir", str(paths.loras)]
        return [sys.executable, "-m", "modules.training", words[0], *places, *words[1:]]

    def _read(self, process: subprocess.Popen[str], orders: Orders) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                if event := TrainingEvent.parse(line):
                    with self._lock:
                        self._state = apply_event(self._state, event)
        code = process.wait()
        orders.put("")
        with self._lock:
            if self._process is not process:
                return  # it reports the end before it exits: the next one may be running already
            if self._state.active:
                kept = f" Checkpoint {self._state.checkpoint} is kept: start again to resume from it." * bool(
                    self._state.checkpoint
                )
                why = f"The training process ended unexpectedly ({code}); see logs/training.log for details.{kept}"
                self._state = replace(self._state, phase="failed", error=why)
            log.info("Training ended: %s", self._state.phase)


def _write(process: subprocess.Popen[str], orders: Orders) -> None:
    """Send the requests to the process, in a separate thread: a process that imports torch reads nothing for
    seconds.
    """
    assert process.stdin is not None
    with contextlib.suppress(OSError), process.stdin:  # OSError: the process has ended
        while line := orders.get():
            process.stdin.write(line)
            process.stdin.flush()


def _line(settings: LoraSettings) -> str:
    return json.dumps(settings.model_dump()) + "\n"


def apply_event(state: TrainingState, event: TrainingEvent) -> TrainingState:
    """The state after this event."""
    match event.kind:
        case "doing":
            return state if state.phase == "stopping" else replace(state, doing=event.text)
        case "note":
            return replace(state, notes=(*state.notes, event.text))
        case "ready":
            return replace(state, ready=event, doing="")
        case "step":
            return replace(state, steps=state.steps.grown(event))
        case "evaluation":
            return replace(state, evaluations=state.evaluations.grown(event))
        case "checkpoint":
            return replace(state, checkpoint=event.update)
        case "sample":
            return replace(state, sample=event)
        case "done":
            return replace(state, phase="done", end=event, doing="")
        case "failed":
            return replace(state, phase="failed", error=event.text, doing="")
