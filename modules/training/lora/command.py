"""`python -m modules.training lora`: a training without a browser; also the process that trains for the page.

Every setting is a flag generated from its declaration. With --json, events are printed as one JSON object per line and
requests are read from standard input; its end stops the training, because its page's server is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from errors import UserError
from loaders.hf_common import packages
from modules.config.paths import Paths, safe_child
from modules.library.model_catalog import ModelCatalog
from modules.training.data.preview import DatasetPreview, keep_samples, preview_dataset
from modules.training.lora.adapter_lock import lock_adapter
from modules.training.lora.events import TrainingEvent
from modules.training.lora.preparation import prepare_training
from modules.training.lora.settings import PARAMETERS_FILE, PROJECTIONS, LoraSettings

#: The subject of the sentence about a missing package.
_WHO = "Training"


def add_lora(commands: Any) -> None:
    """Declare the command `lora`."""
    parser = commands.add_parser("lora", help="Train a LoRA.")
    parser.add_argument(
        "--parameters",
        metavar="FILE",
        help=f"A {PARAMETERS_FILE} to start with (-: one line from standard input); flags override its values.",
    )
    parser.add_argument("--look", action="store_true", help="Only show a preview: counts, samples, memory and time.")
    parser.add_argument("--json", action="store_true", help="Print everything as one JSON object per line.")
    _places(parser)
    for knob in LoraSettings.knobs().values():
        more: dict[str, Any] = {"dest": f"knob_{knob.name}", "default": argparse.SUPPRESS, "help": knob.help}
        if knob.name in PROJECTIONS:
            more["help"] = f"Train {PROJECTIONS[knob.name]}. {knob.help}"
        if knob.kind == "bool":
            parser.add_argument(knob.flag, action=argparse.BooleanOptionalAction, **more)
        elif knob.kind == "choice":
            parser.add_argument(knob.flag, choices=knob.choices, **more)
        else:
            parser.add_argument(knob.flag, metavar=knob.kind.upper(), **more)
    parser.set_defaults(run=run_lora)


def add_merge(commands: Any) -> None:
    """Declare the command `merge`."""
    parser = commands.add_parser("merge", help="Merge a LoRA into its base model.")
    parser.add_argument("--model", required=True, help="The base model's name in models/.")
    parser.add_argument("--lora", required=True, help="The adapter's name in loras/.")
    parser.add_argument("--to", required=True, help="The name of the merged model in models/.")
    parser.add_argument("--strength", type=float, default=1.0, help="Strength of the adapter in the merged model.")
    _places(parser)
    parser.set_defaults(run=run_merge)


def add_gguf(commands: Any) -> None:
    """Declare the command `gguf`."""
    parser = commands.add_parser("gguf", help="Convert a LoRA for llama.cpp: a GGUF file in loras/.")
    parser.add_argument("--model", required=True, help="The base model that it was trained on (its name in models/).")
    parser.add_argument("--lora", required=True, help="The adapter's name in loras/.")
    _places(parser)
    parser.set_defaults(run=run_gguf)


def run_lora(asked: argparse.Namespace) -> int:
    """Preview or train. Raises: UserError."""
    with _own_output(asked.json) as out:
        try:
            settings = _settings(asked)
            with packages.explain_import_errors(_WHO):
                return _look(asked, settings, out) if asked.look else _train(asked, settings, out)
        except UserError as error:
            if not asked.json:
                raise
            _write(out, TrainingEvent("failed", str(error)).line())
            return 2


def run_merge(asked: argparse.Namespace) -> int:
    """Merge. Raises: UserError."""
    paths = _paths(asked)
    base = ModelCatalog(paths).find(asked.model).path
    with packages.explain_import_errors(_WHO):
        from modules.training.lora.merging import merge_adapter

    merge_adapter(base, safe_child(paths.loras, asked.lora), safe_child(paths.models, asked.to), asked.strength)
    sys.stdout.write(f"Created {paths.models / asked.to}.\n")
    return 0


def run_gguf(asked: argparse.Namespace) -> int:
    """Write an adapter as GGUF. Raises: UserError."""
    paths = _paths(asked)
    base = ModelCatalog(paths).find(asked.model).path
    with packages.explain_import_errors(_WHO):
        from modules.training.lora.gguf_adapter import export_gguf

    target = safe_child(paths.loras, asked.lora, ".gguf")
    export_gguf(base, safe_child(paths.loras, asked.lora), target)
    sys.stdout.write(f"Created {target}.\n")
    return 0


# --- inside ---


def _settings(asked: argparse.Namespace) -> LoraSettings:
    started = LoraSettings()
    if asked.parameters == "-":
        started = LoraSettings.from_json(sys.stdin.readline(), "standard input")
    elif asked.parameters:
        started = LoraSettings.read(Path(asked.parameters))
    given = {name.removeprefix("knob_"): value for name, value in vars(asked).items() if name.startswith("knob_")}
    return started.changed(**given)


def _places(parser: argparse.ArgumentParser) -> None:
    root = Path(__file__).resolve().parents[3]
    parser.add_argument("--root", "--user-data-dir", type=Path, default=root, help="Folder of your data.")
    parser.add_argument("--model-dir", default=None, help="Folder of the models, if not models/.")
    parser.add_argument("--lora-dir", default=None, help="Folder of the adapters, if not loras/.")


def _paths(asked: argparse.Namespace) -> Paths:
    return Paths.under(asked.root, asked.model_dir, asked.lora_dir)


@contextlib.contextmanager
def _own_output(json_lines: bool) -> Iterator[TextIO]:
    """Where events go. With JSON nothing else may be printed there: the output of libraries goes to standard error."""
    if not json_lines:
        yield sys.stdout
        return
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as out:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        yield out


def _write(out: TextIO, line: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        out.write(line + "\n")
        out.flush()


def _look(asked: argparse.Namespace, settings: LoraSettings, out: TextIO) -> int:
    found = preview_dataset(prepare_training(_paths(asked), settings, strict=False))
    _write(out, found.line() if asked.json else _in_words(found))
    return 0


def _train(asked: argparse.Namespace, settings: LoraSettings, out: TextIO) -> int:
    tell: Callable[[TrainingEvent], None] = (
        (lambda event: _write(out, event.line())) if asked.json else _Human(out).tell
    )
    paths = _paths(asked)
    with lock_adapter(safe_child(paths.loras, settings.lora_name or "unnamed")):
        tell(TrainingEvent("doing", "Reading the data"))
        prepared = prepare_training(paths, settings)
        for note in prepared.notes:
            tell(TrainingEvent("note", note))
        keep_samples(prepared, paths.logs)
        tell(TrainingEvent("doing", "Starting torch"))
        from modules.training.lora.callback import TrainingControl
        from modules.training.lora.run import train

        orders = TrainingControl()
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, lambda *_: orders.stop.set())
        if asked.json:
            threading.Thread(target=_listen, args=(orders,), daemon=True).start()
        train(prepared, tell, orders)
    return 0


def _listen(orders: Any) -> None:
    for line in sys.stdin:
        try:
            order = json.loads(line)
        except ValueError:
            continue
        if order.get("order") == "sample":
            orders.samples.put(str(order.get("prompt", "")))
        elif order.get("order") == "stop":
            break
    orders.stop.set()


class _Human:
    """Prints events for a person at a terminal."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def tell(self, event: TrainingEvent) -> None:
        match event.kind:
            case "step":
                left = f", {event.seconds_left:,.0f} s left" if event.seconds_left is not None else ""
                words = (
                    f"update {event.update:,} of {event.updates:,}: loss {event.loss:.4f}, learning rate "
                    f"{event.learning_rate:.2e}, {event.tokens_per_second:,.0f} tokens/s{left}"
                )
            case "evaluation":
                words = f"evaluation after update {event.update:,}: loss {event.loss:.4f}"
            case "checkpoint":
                words = f"checkpoint-{event.update} saved"
            case "ready":
                words = f"{event.updates:,} updates of {event.accumulation:,} micro batches"
            case "done":
                words = f"{event.text} after {event.update:,} updates and {event.seconds:,.0f} s"
            case _:
                words = event.text
        _write(self._out, words)


def _in_words(found: DatasetPreview) -> str:
    lines = [
        f"{found.rows:,} {found.kind}: {found.examples:,} examples, {found.tokens:,} tokens, {found.learned:,} learned",
        f"longest: row {found.longest_row:,} with {found.longest_tokens:,} tokens",
        f"{found.updates:,} updates, about {found.seconds:,.0f} s" if found.seconds else f"{found.updates:,} updates",
        f"about {found.needed / 1e9:.2f} GB of {found.where}, {found.free / 1e9:.2f} GB is free",
        *found.notes,
    ]
    for each in found.samples:
        marked = "".join(piece.text if piece.learned else f"\x1b[2m{piece.text}\x1b[0m" for piece in each.pieces)
        lines.append(f"--- row {each.row}, {each.tokens} tokens (dim: not trained on)\n{marked}")
    return "\n".join(lines)
