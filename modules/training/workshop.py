"""Training for the page: one training at a time, in a process of its own, and what is to be said of it.

A process of its own gives all memory back, cannot take the program down, and lets chats go on. It is the command line's
(`python -m modules.training lora --json`); this module must not know torch, nor how anything is shown.
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
from modules.library.shelf import Shelf
from modules.training.base_model import trainable
from modules.training.checkpoints import CONFIG, WEIGHTS, base_of, unfinished
from modules.training.data_folder import text_names
from modules.training.formats import Formats
from modules.training.look import Look
from modules.training.lora_events import Curve, Event
from modules.training.lora_settings import PARAMETERS_FILE, LoraSettings
from modules.training.rows import Rows

log = logging.getLogger(__name__)

_CODE = Path(__file__).resolve().parents[2]
_PATIENCE = 60  # seconds that the program's end waits for a training to save
_MOST_ORDERS = 32  # that wait to be read by the process

Orders: TypeAlias = "queue.SimpleQueue[str]"  # lines; "" is the end

Phase = Literal["none", "running", "stopping", "done", "failed"]


@dataclass(frozen=True)
class State:
    """How the training stands, the last one when none runs."""

    phase: Phase = "none"
    settings: LoraSettings | None = None
    doing: str = ""
    notes: tuple[str, ...] = ()
    ready: Event | None = None
    steps: Curve = Curve()
    evaluations: Curve = Curve()
    checkpoint: int = 0
    sample: Event | None = None
    end: Event | None = None
    error: str = ""

    @property
    def active(self) -> bool:
        return self.phase in ("running", "stopping")


class Workshop:
    """May be used from several threads."""

    def __init__(self, paths: Paths, shelf: Shelf) -> None:
        self._paths, self._shelf = paths, shelf
        self.rows = Rows(paths.training / "datasets")
        self.formats = Formats(paths.training / "formats")
        self._lock = threading.Lock()
        self._state = State()
        self._process: subprocess.Popen[str] | None = None
        self._orders: Orders = queue.SimpleQueue()  # of the process
        self._reader: threading.Thread | None = None

    # --- what there is ---

    def models(self) -> list[str]:
        """The models that can be trained on."""
        return trainable(self._shelf)

    def likely_base(self, loaded: str) -> str:
        """The model that will be meant: the loaded one where it can be trained on, else the only one; or none."""
        known = self.models()
        return loaded if loaded in known else known[0] if len(known) == 1 else ""

    def texts(self) -> list[str]:
        """Text files and folders of them, for raw text."""
        return text_names(self._paths.training / "datasets")

    def adapters(self) -> list[str]:
        """The adapters, whole or begun, whose parameters are known."""
        return self._with(PARAMETERS_FILE)

    def finished(self) -> list[str]:
        """The adapters that can be loaded."""
        return [name for name in self._with(CONFIG) if (self._paths.loras / name / WEIGHTS).is_file()]

    def unfinished(self) -> list[str]:
        """The adapters whose training was stopped or cut off and can go on, the latest first; not the one that runs."""
        state = self.state
        runs = state.settings.lora_name if state.active and state.settings else None
        found = [name for name in self.adapters() if name != runs and unfinished(self._paths.loras / name)]
        return sorted(found, key=lambda name: -(self._paths.loras / name / PARAMETERS_FILE).stat().st_mtime)

    def parameters(self, name: str) -> LoraSettings:
        """What an adapter was trained with. Raises: InvalidName, BadFile."""
        return LoraSettings.read(safe_child(self._paths.loras, name) / PARAMETERS_FILE)

    def base_of(self, name: str) -> str:
        """The base model of an adapter, by its parameters or by its own configuration. Raises: UserError."""
        folder = safe_child(self._paths.loras, name)
        known = self.parameters(name).model if (folder / PARAMETERS_FILE).is_file() else ""
        if not (known := known or base_of(folder)):
            raise InvalidInput(
                f"{name} does not say what model it was trained on. Load that model in the Model tab, and apply "
                "the adapter there."
            )
        return self._shelf.find(known).name

    @property
    def state(self) -> State:
        """How things stand: a snapshot."""
        with self._lock:
            return self._state

    # --- what can be done ---

    def look(self, settings: LoraSettings) -> Look:
        """What a training with these settings would learn and take. Takes seconds. Raises: UserError."""
        command = self._command("lora", "--json", "--look", "--parameters", "-")
        ran = subprocess.run(
            command, cwd=_CODE, input=_line(settings), capture_output=True, text=True, encoding="utf-8", check=False
        )
        said = ran.stdout.strip().splitlines()
        if failed := next((event for line in said if (event := Event.parse(line)) and event.kind == "failed"), None):
            raise InvalidInput(failed.text)
        if ran.returncode:
            log.error("The look at the data failed:\n%s", ran.stderr[-4000:])
        return Look.parse(said[-1] if said else "")

    def start(self, settings: LoraSettings) -> None:
        """Begin to train. What is wrong with the settings or the data comes as the state's error. Raises: Conflict."""
        with self._lock:
            if self._state.active:
                raise Conflict("A training runs already. Stop it first, or wait until it is done.")
            with (self._paths.logs / "training.log").open("w", encoding="utf-8") as last_words:
                self._process = subprocess.Popen(
                    self._command("lora", "--json", "--parameters", "-"), cwd=_CODE, text=True, encoding="utf-8",
                    bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=last_words,
                )  # fmt: skip
            self._state = State("running", settings, "Starting")
            self._orders = queue.SimpleQueue()
            self._orders.put(_line(settings))
            given = (self._process, self._orders)
            self._reader = threading.Thread(target=self._read, args=given, name="training", daemon=True)
            self._reader.start()
            threading.Thread(target=_write, args=given, name="training orders", daemon=True).start()

    def go_on(self, name: str) -> None:
        """Go on with a training from its last checkpoint, as it was set. Raises: InvalidName, BadFile, Conflict."""
        self.start(self.parameters(name).changed(lora_name=name, always_override=False))

    def stop(self) -> None:
        """Let it end after the micro batch that is computed; the adapter and a checkpoint are saved."""
        with self._lock:
            if self._state.active:
                self._state = replace(self._state, phase="stopping", doing="Stopping, and saving what was learned")
            self._orders.put(json.dumps({"order": "stop"}) + "\n")

    def kill(self) -> None:
        """End the process at once, as a crash would: only what its last checkpoint holds is kept."""
        if self._process:
            self._process.kill()

    def sample(self, prompt: str) -> None:
        """Ask what the half-trained model says after this; it comes with the state. Raises: NothingToDo."""
        with self._lock:
            if not self._state.active:
                raise NothingToDo("No training runs. Load the adapter to talk to it.")
            if self._orders.qsize() >= _MOST_ORDERS:
                raise Conflict("The training has not come to the prompts before this one yet. Wait until it has.")
            self._orders.put(json.dumps({"order": "sample", "prompt": prompt}) + "\n")

    def merge(self, base: str, adapter: str, target: str, strength: float) -> Path:
        """Write the base with the adapter in it as a model of its own. Takes a while. Raises: UserError."""
        if not target.strip():
            raise InvalidInput("Give the merged model a name.")
        place = safe_child(self._paths.models, target.strip())
        self._made("merge", "--model", base, "--lora", adapter, "--to", target.strip(), "--strength", str(strength))
        return place

    def to_gguf(self, base: str, adapter: str) -> Path:
        """Write the adapter for llama.cpp, beside its folder. Raises: UserError."""
        place = safe_child(self._paths.loras, adapter, ".gguf")
        self._made("gguf", "--model", base, "--lora", adapter)
        return place

    def wait(self, seconds: float | None = None) -> State:
        """Until it is done, or so long; the state then."""
        if self._reader:
            self._reader.join(seconds)
        return self.state

    def close(self) -> None:
        """Stop with the program: what was learned is saved; who does not end is ended."""
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
        """Let the command line do it, in a process of its own. Raises: Unavailable, with what it says."""
        ran = subprocess.run(self._command(*words), cwd=_CODE, capture_output=True, text=True, check=False)
        if ran.returncode:
            said = ran.stderr.strip().splitlines()
            log.error("%s failed:\n%s", words[0], ran.stderr[-4000:])
            known = ran.returncode == 2 and said
            raise Unavailable(said[-1] if known else f"{words[0]} failed by itself; the log has the details.")

    def _command(self, *words: str) -> Sequence[str]:
        paths = self._paths
        places = ["--root", str(paths.root), "--model-dir", str(paths.models), "--lora-dir", str(paths.loras)]
        return [sys.executable, "-m", "modules.training", words[0], *places, *words[1:]]

    def _read(self, process: subprocess.Popen[str], orders: Orders) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                if event := Event.parse(line):
                    with self._lock:
                        self._state = after(self._state, event)
        code = process.wait()
        orders.put("")
        with self._lock:
            if self._process is not process:
                return  # it says that it is done before it ends: the next one runs already
            if self._state.active:
                kept = f" Checkpoint {self._state.checkpoint} is kept: start again to go on from it." * bool(
                    self._state.checkpoint
                )
                why = f"The training's process ended by itself ({code}); logs/training.log has its last words.{kept}"
                self._state = replace(self._state, phase="failed", error=why)
            log.info("The training has ended: %s", self._state.phase)


def _write(process: subprocess.Popen[str], orders: Orders) -> None:
    """Hand the orders to the process, in a thread of its own: one that imports torch reads nothing for seconds."""
    assert process.stdin is not None
    with contextlib.suppress(OSError), process.stdin:  # OSError: it has ended meanwhile
        while line := orders.get():
            process.stdin.write(line)
            process.stdin.flush()


def _line(settings: LoraSettings) -> str:
    return json.dumps(settings.model_dump()) + "\n"


def after(state: State, event: Event) -> State:
    """The state when this has happened, too."""
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
