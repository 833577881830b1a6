"""Everything that is settled before the first step of a training: the base, the data, where it begins, what it takes.

What cannot go well is said here. The look at the data and the run itself both begin with it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from errors import InvalidInput, NotEnoughMemory, NotWritable, Unavailable
from loaders.cards import free_card_memory
from modules.config.paths import Paths, safe_child
from modules.library.model_settings import ModelSettings
from modules.library.shelf import Shelf
from modules.prompts.templates import Templates
from modules.training import base_model, lora_forecast
from modules.training.base_model import Base
from modules.training.chats import Message, for_template
from modules.training.checkpoints import Beginning, base_of, beginning
from modules.training.data_folder import read_text, text_files
from modules.training.examples import Examples, from_rows, from_text
from modules.training.formats import Format, Formats
from modules.training.lora_forecast import Need
from modules.training.lora_settings import LoraSettings
from modules.training.rows import Rows
from modules.training.target_modules import fitting

if TYPE_CHECKING:
    from loaders.hf.tokenizer import FolderTokenizer

#: Where transformers' polynomial schedule ends.
_LOWEST = 1e-7


@dataclass(frozen=True)
class Prepared:
    """What a training needs. `data` is a fingerprint of what it learns from."""

    settings: LoraSettings
    base: Base
    folder: Path
    tokenizer: FolderTokenizer
    form: Format | None
    examples: Examples
    evaluation: Examples | None
    beginning: Beginning
    need: Need
    data: str
    notes: list[str] = field(default_factory=list)


def prepare(paths: Paths, settings: LoraSettings, *, strict: bool = True) -> Prepared:
    """Settle everything. Without `strict` a name may lack and memory may not suffice: it is only looked at.

    Raises: UserError.
    """
    if not settings.lora_name and strict:
        raise InvalidInput("Give the adapter a name: it is saved under it in loras/.")
    folder = safe_child(paths.loras, settings.lora_name or "unnamed")
    settings.targets, settings.accumulation  # noqa: B018  what makes no sense is said before anything is read
    if settings.batch_size < settings.micro_batch_size:
        raise InvalidInput(
            f"The batch of {settings.batch_size} is smaller than a micro batch of {settings.micro_batch_size}: "
            "lower the micro batch size."
        )
    base = base_model.read_base(Shelf(paths), settings.model)
    fit = fitting(str(base.folder.config.get("model_type", "")), settings.targets, base.modules)
    replaced = fit != settings.targets
    if replaced:
        settings = settings.changed(target_modules=", ".join(fit))
    card = free_card_memory()
    if card is None and (settings.load_in_4bit or settings.optimizer == "adamw_bnb_8bit"):
        raise Unavailable(
            "A base in 4 bits and the optimizer in 8 bits need an NVIDIA graphics card, and none is here."
        )
    if settings.lr_scheduler_type == "polynomial" and settings.learning_rate <= _LOWEST:
        raise InvalidInput(f"A polynomial schedule ends at {_LOWEST:g}: the learning rate has to begin above it.")
    if strict and paths.loras.is_dir() and not os.access(paths.loras, os.W_OK):
        raise NotWritable(paths.loras, OSError(errno.EACCES, os.strerror(errno.EACCES)))
    from loaders.hf.tokenizer import FolderTokenizer  # here: what it needs may be missing, and `read_base` says so

    tokenizer = FolderTokenizer(base.folder.path, base.vocabulary)
    reader = _Reader(paths, settings, tokenizer)
    examples, evaluation, form = reader.examples(), reader.evaluation(), reader.form
    lengths = [len(each.ids) for each in examples.examples]
    free = psutil.virtual_memory().available if card is None else card
    evaluated = [len(each.ids) for each in evaluation.examples] if evaluation else []
    found = lora_forecast.need(base, settings, lengths, evaluated, free, card=card is not None)
    if strict and not found.fits:
        raise NotEnoughMemory(
            "This training", found.total, found.free,
            "Lower the micro batch size or the cutoff length, tick gradient checkpointing, or unload the model.",
        )  # fmt: skip
    if card is None:
        speed = lora_forecast.matrix_speed()
        found = replace(found, seconds=lora_forecast.seconds(base, settings, lengths, speed))
    fingerprint = examples.fingerprint()
    begins = beginning(folder, settings, fingerprint) if settings.lora_name else Beginning("fresh", "")
    notes = [*([begins.why] if begins.why else []), reader.why, *examples.notes(settings)]
    if replaced:
        notes.append(f"This model has none of the chosen modules; trained are {settings.target_modules}, as peft does.")
    before = base_of(begins.source) if begins.how == "continued" and begins.source else ""
    if before and before != base.folder.path.name:
        notes.append(f"The adapter was trained on {before}, and goes on with {base.folder.path.name}.")
    context = base.folder.context_length
    if context and settings.cutoff_len > context:
        notes.append(f"The cutoff of {settings.cutoff_len} tokens is more than the model's context of {context}.")
    return Prepared(
        settings, base, folder, tokenizer, form, examples, evaluation, begins, found, fingerprint,
        [note for note in notes if note],
    )  # fmt: skip


class _Reader:
    """Reads what is learned, by the settings."""

    def __init__(self, paths: Paths, settings: LoraSettings, tokenizer: FolderTokenizer) -> None:
        self._settings = settings
        self._tokenizer = tokenizer
        self._folder = paths.training / "datasets"
        self._rows = Rows(self._folder)
        self._templates = Templates(paths, ModelSettings(paths).matches)
        self.form = Formats(paths.training / "formats").load(settings.format) if settings.format else None
        self._template, self.why = "", ""

    def examples(self) -> Examples:
        settings = self._settings
        if settings.raw_text_file:
            files = text_files(self._folder, settings.raw_text_file)
            return from_text([read_text(file) for file in files], settings.raw_text_file, settings, self._tokenizer)
        if not settings.dataset:
            raise InvalidInput("Choose what to learn from: a data set, or a text file.")
        return self._of(settings.dataset)

    def evaluation(self) -> Examples | None:
        return self._of(self._settings.eval_dataset) if self._settings.eval_dataset else None

    def _of(self, name: str) -> Examples:
        rows = self._rows.load(name)
        return from_rows(rows, name, self.form, self._settings, self._tokenizer, self._write)

    def _write(self, messages: Sequence[Message], reply: bool, tools: Any) -> str:
        if not self._template:
            name = self._settings.model
            self._template, why = self._templates.detect_for(name, self._tokenizer.chat_template, "the model's folder")
            self.why = f"Chats are written by the template {why}."
        tokenizer = self._tokenizer
        said = [for_template(each, self._template) for each in messages]
        return self._templates.render(
            self._template, said, add_generation_prompt=reply, bos_token=tokenizer.bos_token,
            eos_token=tokenizer.eos_token, tools=tools,
        )  # fmt: skip
