"""Prepares a training before its first step: base model, data, starting point, and memory estimate.

Errors are reported here, early. Both the preview and the training begin with it.
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
from loaders.gpus import nvidia_free_memory
from modules.config.paths import Paths, safe_child
from modules.library.model_catalog import ModelCatalog
from modules.library.model_settings import ModelSettings
from modules.prompts.templates import Templates
from modules.training.data.chat_writer import ChatWriter
from modules.training.data.chats import Message
from modules.training.data.datasets import Datasets
from modules.training.data.examples import Examples, examples_from_rows, examples_from_text
from modules.training.data.folder import find_text_files, read_text
from modules.training.data.formats import RowFormat, RowFormats
from modules.training.lora import base_model, forecast
from modules.training.lora.base_model import TrainingBase
from modules.training.lora.checkpoints import StartPoint, adapter_base, find_start_point
from modules.training.lora.forecast import TrainingMemory
from modules.training.lora.settings import LoraSettings
from modules.training.lora.target_modules import choose_target_modules

if TYPE_CHECKING:
    from loaders.hf_common.tokenizer import FolderTokenizer

#: The final value of transformers' polynomial schedule.
_LOWEST = 1e-7


@dataclass(frozen=True)
class PreparedTraining:
    """Everything a training needs. `data` is a fingerprint of what it learns from."""

    settings: LoraSettings
    base: TrainingBase
    folder: Path
    tokenizer: FolderTokenizer
    form: RowFormat | None
    examples: Examples
    evaluation: Examples | None
    beginning: StartPoint
    need: TrainingMemory
    data: str
    notes: list[str] = field(default_factory=list)


def prepare_training(paths: Paths, settings: LoraSettings, *, strict: bool = True) -> PreparedTraining:
    """Prepare everything. Without `strict`, the name may be missing and memory may be insufficient: it is only
    previewed.

    Raises: UserError.
    """
    if not settings.lora_name and strict:
        raise InvalidInput("Enter a name for the adapter, which is saved under it in loras/.")
    folder = safe_child(paths.loras, settings.lora_name or "unnamed")
    settings.targets, settings.accumulation  # noqa: B018  what makes no sense is said before anything is read
    if settings.batch_size < settings.micro_batch_size:
        raise InvalidInput(
            f"The batch size of {settings.batch_size} is smaller than the micro batch size of "
            f"{settings.micro_batch_size}. Lower the micro batch size."
        )
    base = base_model.read_base(ModelCatalog(paths), settings.model)
    fit = choose_target_modules(str(base.folder.config.get("model_type", "")), settings.targets, base.modules)
    replaced = fit != settings.targets
    if replaced:
        settings = settings.changed(target_modules=", ".join(fit))
    card = nvidia_free_memory()
    if card is None and (settings.load_in_4bit or settings.optimizer == "adamw_bnb_8bit"):
        raise Unavailable("A 4-bit base model and the 8-bit optimizer require an NVIDIA GPU, but none was found.")
    if settings.lr_scheduler_type == "polynomial" and settings.learning_rate <= _LOWEST:
        raise InvalidInput(f"A polynomial schedule ends at {_LOWEST:g}, so the learning rate must be higher than that.")
    if strict and paths.loras.is_dir() and not os.access(paths.loras, os.W_OK):
        raise NotWritable(paths.loras, OSError(errno.EACCES, os.strerror(errno.EACCES)))
    from loaders.hf_common.tokenizer import (
        FolderTokenizer,  # here: its requirements may be missing, which `read_base` reports
    )

    tokenizer = FolderTokenizer(base.folder.path, base.vocabulary)
    reader = _Reader(paths, settings, tokenizer)
    examples, evaluation, form = reader.examples(), reader.evaluation(), reader.form
    lengths = [len(each.ids) for each in examples.examples]
    free = psutil.virtual_memory().available if card is None else card
    evaluated = [len(each.ids) for each in evaluation.examples] if evaluation else []
    found = forecast.estimate_training_memory(base, settings, lengths, evaluated, free, card=card is not None)
    if strict and not found.fits:
        raise NotEnoughMemory(
            "This training", found.total, found.free,
            "Lower the micro batch size or the cutoff length, turn on gradient checkpointing, or unload the model.",
        )  # fmt: skip
    if card is None:
        speed = forecast.measure_matrix_speed()
        found = replace(found, seconds=forecast.estimate_seconds(base, settings, lengths, speed))
    fingerprint = examples.fingerprint()
    begins = find_start_point(folder, settings, fingerprint) if settings.lora_name else StartPoint("fresh", "")
    notes = [*([begins.why] if begins.why else []), reader.why, *reader.notes, *examples.notes(settings)]
    if replaced:
        notes.append(
            "This model has none of the selected modules. PEFT's default modules are trained instead: "
            f"{settings.target_modules}."
        )
    before = adapter_base(begins.source) if begins.how == "continued" and begins.source else ""
    if before and before != base.folder.path.name:
        notes.append(f"The adapter was trained on {before}, and training continues on {base.folder.path.name}.")
    context = base.folder.context_length
    if context and settings.cutoff_len > context:
        notes.append(f"The cutoff length of {settings.cutoff_len} tokens exceeds the model's context of {context}.")
    return PreparedTraining(
        settings, base, folder, tokenizer, form, examples, evaluation, begins, found, fingerprint,
        [note for note in notes if note],
    )  # fmt: skip


class _Reader:
    """Reads the training data according to the settings."""

    def __init__(self, paths: Paths, settings: LoraSettings, tokenizer: FolderTokenizer) -> None:
        self._settings = settings
        self._tokenizer = tokenizer
        self._folder = paths.training / "datasets"
        self._rows = Datasets(self._folder)
        self._templates = Templates(paths, ModelSettings(paths).matches)
        self.form = RowFormats(paths.training / "formats").load(settings.format) if settings.format else None
        self._writer: ChatWriter | None = None
        self.why = ""

    def examples(self) -> Examples:
        settings = self._settings
        if settings.raw_text_file:
            files = find_text_files(self._folder, settings.raw_text_file)
            return examples_from_text(
                [read_text(file) for file in files], settings.raw_text_file, settings, self._tokenizer
            )
        if not settings.dataset:
            raise InvalidInput("Choose training data: a dataset or a text file.")
        return self._of(settings.dataset)

    def evaluation(self) -> Examples | None:
        return self._of(self._settings.eval_dataset) if self._settings.eval_dataset else None

    def _of(self, name: str) -> Examples:
        rows = self._rows.load(name)
        return examples_from_rows(rows, name, self.form, self._settings, self._tokenizer, self._write)

    def _write(self, messages: Sequence[Message], reply: bool, tools: Any) -> str:
        if self._writer is None:
            name, tokenizer = self._settings.model, self._tokenizer
            template, why = self._templates.detect_for(name, tokenizer.chat_template, "the model's folder")
            self.why = f"Chats use the template {why}."
            self._writer = ChatWriter(self._templates.render, template, tokenizer.bos_token, tokenizer.eos_token)
        return self._writer(messages, reply, tools)

    @property
    def notes(self) -> list[str]:
        """What the template did not support."""
        return list(self._writer.notes) if self._writer else []
