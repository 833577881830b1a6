"""The folder of an adapter, loras/NAME: put in order before a training, filled after it.

Names of files are the original's. This module must not know how a training goes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from errors import NotWritable, Unavailable
from modules.config.atomic import write_text
from modules.training.checkpoints import CONFIG, LOG_FILE, PICKLED, WEIGHTS, put_away, remove_after
from modules.training.lora_settings import PARAMETERS_FILE
from modules.training.preparation import Prepared


def settle(prepared: Prepared) -> None:
    """Put away what was there, and keep the parameters: whatever happens now, it is known what was tried.

    Raises: Conflict, NotWritable.
    """
    try:
        _settle(prepared)
    except OSError as error:
        raise NotWritable(prepared.folder, error) from None


def _settle(prepared: Prepared) -> None:
    folder, how = prepared.folder, prepared.beginning.how
    if folder.is_dir() and any(file for file in folder.iterdir() if not file.name.startswith("Backup-")):
        if how == "fresh":
            put_away(folder, keep=False)
        elif how == "continued":
            put_away(folder, keep=True)
        elif prepared.beginning.source:
            remove_after(prepared.beginning.source)
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


def save(model: Any, folder: Path) -> None:
    """The adapter into its folder: each file is there whole or as it was before. Raises: Unavailable."""
    half_made = folder / ".saving"
    try:
        model.save_pretrained(str(half_made))
        for name in (WEIGHTS, CONFIG):
            (half_made / name).replace(folder / name)
        for rest in half_made.iterdir():
            rest.unlink()
        half_made.rmdir()
        (folder / PICKLED).unlink(missing_ok=True)  # it is in the backup; the file beside it counts now
    except (OSError, SafetensorError) as error:
        raise Unavailable(
            f"The adapter cannot be written to {folder}: {error}. Make room there and start again: it goes on from its "
            "last checkpoint."
        ) from None


def keep_log(prepared: Prepared, **course: Any) -> None:
    """Everything about the training into one file: its settings, and its course as it is given. Raises: NotWritable."""
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
