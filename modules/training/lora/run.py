"""The training run: peft's adapter on a transformers model, and its Trainer over the examples. It takes a whole
process.

Events go to `tell`, requests come through `TrainingControl`; this module does not know who is on the other side. torch
and others are imported with this module, so only the training process imports it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import peft
import torch
import transformers
from safetensors import SafetensorError
from transformers import PrinterCallback, Trainer, TrainingArguments

from errors import IncompatibleAdapter, OutOfGpuMemory, Unavailable, UserError
from loaders.huggingface import native
from loaders.huggingface.options import TransformersOptions
from modules.training.data.examples import IGNORED, Examples
from modules.training.lora import folder
from modules.training.lora.callback import Tell, TrainingControl, TrainingStopped, TrainingWatch, is_finite
from modules.training.lora.checkpoints import checkpoint_folder
from modules.training.lora.events import Ending, TrainingEvent
from modules.training.lora.preparation import PreparedTraining

log = logging.getLogger(__name__)

#: Lengths of a batch are padded to a multiple of this: matrix products of odd sizes are slower.
_MULTIPLE = 8


def train(prepared: PreparedTraining, tell: Tell, orders: TrainingControl) -> Ending:
    """Train until finished or stopped; the adapter is in its folder then. Raises: UserError."""
    tell(TrainingEvent("doing", f"Loading {prepared.base.folder.path.name}"))
    transformers.set_seed(prepared.settings.seed)
    model = _model(prepared)
    folder.prepare_folder(prepared)
    watch = TrainingWatch(prepared, model, tell, orders)
    trainer = _trainer(prepared, model, watch)
    begins = prepared.beginning
    try:
        trainer.train(resume_from_checkpoint=str(begins.source) if begins.how == "resumed" else None)
    except TrainingStopped:
        _rescue(trainer, watch)
    except UserError:
        raise
    except Exception as error:
        log.exception("Training failed")
        _rescue(trainer, watch)
        raise _broke_off(error) from None
    if watch.diverged or not is_finite(model):
        raise Unavailable(
            f"Training diverged at update {watch.update}: the learning rate of "
            f"{prepared.settings.learning_rate:g} is too high, or the base model is damaged. Existing files were "
            "not overwritten."
        )
    folder.save_adapter(model, prepared.folder)
    _keep_log(prepared, watch, trainer)
    if prepared.evaluation and watch.ending != "stopped" and watch.evaluated != watch.update:
        _evaluate(prepared, watch, trainer, tell)
    if watch.ending != "stopped":
        watch.remove_own()  # there is nothing to resume
    tell(
        TrainingEvent(
            "done",
            watch.ending,
            update=watch.update,
            updates=trainer.state.max_steps,
            seconds=watch.seconds,
            tokens_per_second=watch.rate,
        )
    )
    return watch.ending


# --- before ---


def _model(prepared: PreparedTraining) -> Any:
    """The base model with its adapter, ready to be trained. Raises: ModelFileError, OutOfGpuMemory,
    IncompatibleAdapter.
    """
    settings, begins = prepared.settings, prepared.beginning
    half = _half()
    values: dict[str, Any] = {
        "load_in_4bit": settings.load_in_4bit,
        "bf16": half == "bfloat16",
        "compute_dtype": half,
        # the Trainer uses CUDA or the CPU; several GPUs hold the layers in turn, or it would copy the model to each
        "cpu": not torch.cuda.is_available(),
        "auto_devices": torch.cuda.device_count() > 1,
    }
    options = TransformersOptions.parse(values)
    plan = native.plan_devices(options, [])
    base = native.open_for_training(prepared.base.folder, options, plan, lambda _fraction, _doing: True)
    base.config.use_cache = False
    if settings.load_in_4bit:
        base = peft.prepare_model_for_kbit_training(base, use_gradient_checkpointing=settings.gradient_checkpointing)  # type: ignore[no-untyped-call, unused-ignore]
    elif settings.gradient_checkpointing:
        base.enable_input_require_grads()
    if begins.source is not None:
        return _adapter(base, prepared)
    return peft.get_peft_model(
        base,
        peft.LoraConfig(
            r=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            target_modules=list(settings.targets),
            lora_dropout=settings.lora_dropout,
            bias="none",
            task_type="CAUSAL_LM",
            fan_in_fan_out=_is_transposed(base, settings.targets),
        ),
    )


def _is_transposed(base: Any, targets: Sequence[str]) -> bool:
    """Whether these modules store their weights transposed, as GPT-2's do; peft asks for it."""
    found = (module for name, module in base.named_modules() if name.rpartition(".")[2] in targets)
    return any(type(module).__name__ == "Conv1D" for module in found)


def _adapter(base: Any, prepared: PreparedTraining) -> Any:
    """The base model with an existing adapter, however PEFT created it; only the dropout is ours to set."""
    source = str(prepared.beginning.source)
    try:
        config = peft.PeftConfig.from_pretrained(source)
        config.lora_dropout = prepared.settings.lora_dropout
        return peft.PeftModel.from_pretrained(base, source, is_trainable=True, config=config)
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, OSError, SafetensorError) as error:
        log.warning("%s", source, exc_info=True)
        why = " ".join(str(error).split())[:150] or type(error).__name__
        raise IncompatibleAdapter(
            prepared.folder.name, f"it is damaged, or was made for another model ({why})"
        ) from None


def _trainer(prepared: PreparedTraining, model: Any, watch: TrainingWatch) -> Trainer:
    def collate(rows: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, torch.Tensor]:
        watch.count(sum(len(row["input_ids"]) for row in rows))
        return pad_batch(rows)

    trainer = Trainer(
        model=model,
        args=_arguments(prepared),
        train_dataset=_dataset(prepared.examples),
        eval_dataset=_dataset(prepared.evaluation) if prepared.evaluation else None,
        data_collator=collate,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _half() -> str:
    """The precision of a GPU."""
    return "bfloat16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float16"


def _arguments(prepared: PreparedTraining) -> TrainingArguments:
    settings, cuda, half = prepared.settings, torch.cuda.is_available(), _half()
    evaluates = prepared.evaluation is not None
    return TrainingArguments(
        output_dir=str(prepared.folder),
        per_device_train_batch_size=settings.micro_batch_size,
        per_device_eval_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=settings.accumulation,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler_type,
        warmup_steps=settings.in_updates(settings.warmup_steps),
        optim=settings.optimizer,
        seed=settings.seed,
        bf16=cuda and half == "bfloat16",
        fp16=cuda and half == "float16",
        use_cpu=not cuda,
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if settings.gradient_checkpointing else None,
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=settings.in_updates(settings.eval_steps) if evaluates else None,
        prediction_loss_only=True,
        save_strategy="steps" if settings.save_steps else "no",
        save_steps=settings.in_updates(settings.save_steps) or 1,
        dataloader_pin_memory=cuda,
        report_to="none",
        disable_tqdm=True,
    )


def _dataset(examples: Examples) -> datasets.Dataset:
    kept = examples.examples
    return datasets.Dataset.from_dict(
        {"input_ids": [list(each.ids) for each in kept], "labels": [list(each.labels) for each in kept]}
    )


def pad_batch(rows: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, torch.Tensor]:
    """A batch of rows, padded on the right: input_ids, attention_mask and labels, each (rows, longest)."""
    longest = max(len(row["input_ids"]) for row in rows)
    width = math.ceil(longest / _MULTIPLE) * _MULTIPLE

    def padded(name: str, value: int) -> torch.Tensor:
        return torch.tensor([[*row[name], *[value] * (width - len(row[name]))] for row in rows])

    mask = [[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows]
    return {
        "input_ids": padded("input_ids", 0),
        "attention_mask": torch.tensor(mask),
        "labels": padded("labels", IGNORED),
    }


# --- after, and when it goes wrong ---


def _rescue(trainer: Trainer, watch: TrainingWatch) -> None:
    """Save what was learned since the last checkpoint, as of the last update, if the Trainer itself cannot."""
    try:
        if watch.worth_keeping:
            watch.rewind()
            trainer._save_checkpoint(trainer.model, trial=None)
            watch.kept(checkpoint_folder(trainer.args.output_dir, watch.update))
    except Exception:
        log.exception("The progress since the last checkpoint could not be saved")


def _broke_off(error: Exception) -> UserError:
    known = native.explain_error(error)
    if isinstance(known, OutOfGpuMemory):
        told = "the GPU ran out of memory. Lower the micro batch size or the cutoff length, or turn on "
        told += "gradient checkpointing"
    else:
        told = " ".join(str(error).split())[:200] or type(error).__name__
    return Unavailable(f"Training failed: {told}. The last checkpoint is kept.")


def _evaluate(prepared: PreparedTraining, watch: TrainingWatch, trainer: Trainer, tell: Tell) -> None:
    """The last evaluation. The adapter is already saved, so nothing here can lose it."""
    ending = watch.ending
    try:
        trainer.evaluate()
        _keep_log(prepared, watch, trainer)
    except TrainingStopped:
        watch.ending = ending  # it was trained to the end
    except Exception as error:
        log.exception("The final evaluation failed")
        tell(TrainingEvent("note", f"The final evaluation failed: {' '.join(str(error).split())[:200]}"))


def _keep_log(prepared: PreparedTraining, watch: TrainingWatch, trainer: Trainer) -> None:
    folder.write_log(
        prepared,
        finished=watch.ending != "stopped",
        ending=watch.ending,
        updates=watch.update,
        loss=watch.loss,
        train_runtime=round(watch.seconds, 2),
        tokens_per_second=round(watch.rate, 1),
        history=trainer.state.log_history,
        versions={each.__name__: each.__version__ for each in (torch, transformers, peft, datasets)},
    )
