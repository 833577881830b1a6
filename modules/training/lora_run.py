"""A training itself: peft's adapter on a model of transformers, its Trainer over the examples. It takes a process.

What is said goes to `tell`, what is wished comes through `Orders`; who listens is not known here. torch and the others
are imported with this module, so it is imported by the process that trains alone.
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

from errors import AdapterUnfit, OutOfGpuMemory, Unavailable, UserError
from loaders.huggingface import native
from loaders.huggingface.options import TransformersOptions
from modules.training import lora_folder
from modules.training.checkpoints import checkpoint
from modules.training.examples import IGNORED, Examples
from modules.training.lora_events import Ending, Event
from modules.training.lora_watch import Orders, Stopped, Tell, Watch, finite
from modules.training.preparation import Prepared

log = logging.getLogger(__name__)

#: Lengths of a batch are padded to a multiple of this: matrix products of odd sizes are slower.
_MULTIPLE = 8


def train(prepared: Prepared, tell: Tell, orders: Orders) -> Ending:
    """Train to the end, or until it is stopped; the adapter lies in its folder then. Raises: UserError."""
    tell(Event("doing", f"Loading {prepared.base.folder.path.name}"))
    transformers.set_seed(prepared.settings.seed)
    model = _model(prepared)
    lora_folder.settle(prepared)
    watch = Watch(prepared, model, tell, orders)
    trainer = _trainer(prepared, model, watch)
    begins = prepared.beginning
    try:
        trainer.train(resume_from_checkpoint=str(begins.source) if begins.how == "resumed" else None)
    except Stopped:
        _rescue(trainer, watch)
    except UserError:
        raise
    except Exception as error:
        log.exception("The training broke off")
        _rescue(trainer, watch)
        raise _broke_off(error) from None
    if watch.diverged or not finite(model):
        raise Unavailable(
            f"The numbers ran away at update {watch.update}: the learning rate of {prepared.settings.learning_rate:g} "
            "is too high for this, or the base model is damaged. Nothing was saved over what was there."
        )
    lora_folder.save(model, prepared.folder)
    _keep_log(prepared, watch, trainer)
    if prepared.evaluation and watch.ending != "stopped" and watch.evaluated != watch.update:
        _evaluate(prepared, watch, trainer, tell)
    if watch.ending != "stopped":
        watch.remove_own()  # there is nothing to go on with
    tell(Event("done", watch.ending, update=watch.update, updates=trainer.state.max_steps, seconds=watch.seconds,
               tokens_per_second=watch.rate))  # fmt: skip
    return watch.ending


# --- before ---


def _model(prepared: Prepared) -> Any:
    """The base with its adapter, ready to be trained. Raises: ModelFileError, OutOfGpuMemory, AdapterUnfit."""
    settings, begins = prepared.settings, prepared.beginning
    half = _half()
    values: dict[str, Any] = {
        "load_in_4bit": settings.load_in_4bit,
        "bf16": half == "bfloat16",
        "compute_dtype": half,
        # the Trainer takes CUDA or the CPU; several cards hold the layers in turn, or it would copy the model onto each
        "cpu": not torch.cuda.is_available(),
        "auto_devices": torch.cuda.device_count() > 1,
    }
    options = TransformersOptions.parse(values)
    plan = native.plan(options, [])
    base = native.opened_to_train(prepared.base.folder, options, plan, lambda _fraction, _doing: True)
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
        ),
    )


def _adapter(base: Any, prepared: Prepared) -> Any:
    """The base with an adapter that is there, in whatever way PEFT made it; the dropout alone is ours to say."""
    source = str(prepared.beginning.source)
    try:
        config = peft.PeftConfig.from_pretrained(source)
        config.lora_dropout = prepared.settings.lora_dropout
        return peft.PeftModel.from_pretrained(base, source, is_trainable=True, config=config)
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, OSError, SafetensorError) as error:
        log.warning("%s", source, exc_info=True)
        why = " ".join(str(error).split())[:150] or type(error).__name__
        raise AdapterUnfit(prepared.folder.name, f"it is damaged, or was made for another one ({why})") from None


def _trainer(prepared: Prepared, model: Any, watch: Watch) -> Trainer:
    def collate(rows: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, torch.Tensor]:
        watch.count(sum(len(row["input_ids"]) for row in rows))
        return collated(rows)

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
    """The precision of a graphics card."""
    return "bfloat16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float16"


def _arguments(prepared: Prepared) -> TrainingArguments:
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


def collated(rows: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, torch.Tensor]:
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


def _rescue(trainer: Trainer, watch: Watch) -> None:
    """Write what was learned since the last checkpoint, as of the last update, when the Trainer itself cannot."""
    try:
        if watch.worth_keeping:
            watch.rewind()
            trainer._save_checkpoint(trainer.model, trial=None)
            watch.kept(checkpoint(trainer.args.output_dir, watch.update))
    except Exception:
        log.exception("What was learned since the last checkpoint could not be kept")


def _broke_off(error: Exception) -> UserError:
    known = native.explain(error)
    if isinstance(known, OutOfGpuMemory):
        told = "the graphics card's memory does not suffice. Lower the micro batch size or the cutoff length, or tick "
        told += "gradient checkpointing"
    else:
        told = " ".join(str(error).split())[:200] or type(error).__name__
    return Unavailable(f"The training broke off: {told}. What its last checkpoint holds is kept.")


def _evaluate(prepared: Prepared, watch: Watch, trainer: Trainer, tell: Tell) -> None:
    """The last evaluation. The adapter is saved already: nothing that happens here can cost it."""
    ending = watch.ending
    try:
        trainer.evaluate()
        _keep_log(prepared, watch, trainer)
    except Stopped:
        watch.ending = ending  # it was trained to its end
    except Exception as error:
        log.exception("The last evaluation")
        tell(Event("note", f"The last evaluation broke off: {' '.join(str(error).split())[:200]}"))


def _keep_log(prepared: Prepared, watch: Watch, trainer: Trainer) -> None:
    lora_folder.keep_log(
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
