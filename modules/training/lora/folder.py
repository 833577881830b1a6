"""The folder of an adapter, loras/NAME: prepared before a training, filled after it.

File names are the original's. This module must not know how a training runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from errors import NotWritable, Unavailable
from modules.config.atomic import write_text
from modules.training.lora.checkpoints import CONFIG, LOG_FILE, PICKLED, WEIGHTS, back_up, remove_later_checkpoints
from modules.training.lora.preparation import PreparedTraining
from modules.training.lora.settings import PARAMETERS_FILE


def prepare_folder(prepared: PreparedTraining) -> None:
    """Back up existing files and save the parameters, so that even a failed training has a record.

    Raises: Conflict, NotWritable.
    """
    try:
        _settle(prepared)
    except OSError as error:
        raise NotWritable(prepared.folder, error) from None


def _settle(prepared: PreparedTraining) -> None:
    folder, how = prepared.folder, prepared.beginning.how
    if folder.is_dir() and any(file for file in folder.iterdir() if not file.name.startswith("Backup-")):
        if how == "fresh":
            back_up(folder, keep=False)
        elif how == "continued":
            back_up(folder, keep=True)
        elif prepared.beginning.source:
            remove_later_checkpoints(prepared.beginning.source)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOG_FILE).unlink(missing_ok=True)
    kept = {**prepared.settings.model_dump(), "data": prepared.data}
    write_text(folder / PARAMETERS_FILE, json.dumps(kept, indent=2, ensure_ascii=False))
    form = prepared.form
    prompt: dict[str, Any] = {"template_type": "dataset", "template_1": prepared.examples.kind}
    if prepared.settings.raw_text_file:
        prompt = {"template_type": "raw_text"}
    elif form:
        texts = {",".join(sorted(keys)): text for keys, text in form.texts.items()}
        prompt = {"template_type": "dataset", **{f"template_{n}": text for n, text in enumerate(texts.values(), 1)}}
    write_text(folder / "training_prompt.json", json.dumps(prompt, indent=2, ensure_ascii=False))


def save_adapter(model: Any, folder: Path) -> None:
    """Save the adapter into its folder, each file atomically. Raises: Unavailable."""
    half_made = folder / ".saving"
    try:
        model.save_pretrained(str(half_made))
        for name in (WEIGHTS, CONFIG):
            (half_made / name).replace(folder / name)
        for rest in half_made.iterdir():
            rest.unlink()
        half_made.rmdir()
        (folder / PICKLED).unlink(missing_ok=True)  # it is in the backup; the new file counts now
    except (OSError, SafetensorError) as error:
        raise Unavailable(
            f"The adapter could not be written to {folder}: {error}. Free some disk space, then start again to "
            "resume from the last checkpoint."
        ) from None


def write_log(prepared: PreparedTraining, **course: Any) -> None:
    """Write the training's settings and course into one file. Raises: NotWritable."""
    base = prepared.base.folder
    architectures = base.config.get("architectures")
    kept = {
        "base_model_name": base.path.name,
        "base_model_class": architectures[0] if isinstance(architectures, list) and architectures else "",
        "base_loaded_in_4bit": prepared.settings.load_in_4bit,
        "projections": list(prepared.settings.targets),
        **prepared.settings.model_dump(),
        "began": prepared.beginning.why,
        "examples": len(prepared.examples.examples),
        **course,
    }
    try:
        write_text(prepared.folder / LOG_FILE, json.dumps(kept, indent=2, ensure_ascii=False))
    except OSError as error:
        raise NotWritable(prepared.folder / LOG_FILE, error) from None
