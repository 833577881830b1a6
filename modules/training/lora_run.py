"""A training itself: peft's adapter on a model of transformers, its Trainer over the examples. It takes a process.

What is said goes to `tell`, what is wished comes through `Orders`; who listens is not known here. torch and the others
are imported with this module, so it is imported by the process that trains alone.
"""

from __future__ import annotations

import json
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import peft
import torch
import transformers
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from errors import Unavailable, UserError
from loaders.huggingface import native
from loaders.huggingface.options import TransformersOptions
from modules.config.atomic import write_text
from modules.training.checkpoints import CONFIG, LOG_FILE, WEIGHTS, put_away, remove_checkpoints
from modules.training.examples import IGNORED, Examples
from modules.training.lora_events import Ending, Event
from modules.training.lora_settings import PARAMETERS_FILE
from modules.training.preparation import Prepared

log = logging.getLogger(__name__)

Tell = Callable[[Event], None]

#: Lengths of a batch are padded to a multiple of this: matrix products of odd sizes are slower.
_MULTIPLE = 8
_SAMPLE_TOKENS = 80
#: Seconds between two checkpoints where none were asked for.
_OWN_CHECKPOINTS = 300


@dataclass
class Orders:
    """What is wished of a training that runs. May be given from any thread."""

    stop: threading.Event = field(default_factory=threading.Event)
    samples: queue.Queue[str] = field(default_factory=queue.Queue)


def train(prepared: Prepared, tell: Tell, orders: Orders) -> Ending:
    """Train to the end, or until it is stopped; the adapter lies in its folder then. Raises: UserError."""
    settings, folder, begins = prepared.settings, prepared.folder, prepared.beginning
    tell(Event("doing", f"Loading {prepared.base.folder.path.name}"))
    transformers.set_seed(settings.seed)
    cuda = torch.cuda.is_available()
    half = "bfloat16" if cuda and torch.cuda.is_bf16_supported() else "float16"
    model = _model(prepared, half)
    _settle_folder(prepared)
    watch = _Watch(prepared, tell, orders)
    trainer = Trainer(
        model=model,
        args=_arguments(prepared, cuda=cuda, half=half),
        train_dataset=_dataset(prepared.examples),
        eval_dataset=_dataset(prepared.evaluation) if prepared.evaluation else None,
        data_collator=watch.counted,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    try:
        trainer.train(resume_from_checkpoint=str(begins.source) if begins.how == "resumed" else None)
    except UserError:
        raise
    except Exception as error:
        log.exception("The training broke off")
        if known := native.explain(error):
            raise known from None
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise Unavailable(f"The training broke off: {told}. What its last checkpoint holds is kept.") from None
    if watch.diverged:
        raise Unavailable(
            f"The loss is not a number after update {watch.update}: the learning rate of {settings.learning_rate:g} is "
            "too high for this, or the base model is damaged. Nothing was saved over what was there."
        )
    ending = watch.ending
    if prepared.evaluation and ending != "stopped" and watch.evaluated != watch.update:
        trainer.evaluate()
    _save(model, folder)
    _keep_log(prepared, watch, trainer.state.log_history, ending)
    if ending != "stopped" and not settings.save_steps:
        remove_checkpoints(folder)  # nobody asked for them, and there is nothing to go on with
    tell(Event("done", ending, update=watch.update, updates=trainer.state.max_steps, seconds=watch.seconds,
               tokens_per_second=watch.rate))  # fmt: skip
    return ending


# --- before ---


def _model(prepared: Prepared, half: str) -> Any:
    """The base with its adapter, ready to be trained."""
    settings, begins = prepared.settings, prepared.beginning
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
    if begins.how == "continued":
        return peft.PeftModel.from_pretrained(base, str(begins.source), is_trainable=True)
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


def _settle_folder(prepared: Prepared) -> None:
    """Put away what was there, and keep the parameters: whatever happens now, it is known what was tried."""
    folder, how = prepared.folder, prepared.beginning.how
    if folder.is_dir() and any(file for file in folder.iterdir() if not file.name.startswith("Backup-")):
        if how == "fresh":
            put_away(folder, keep=False)
        elif how == "continued":
            put_away(folder, keep=True)
        else:
            remove_checkpoints(folder, but=prepared.beginning.source)
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


def _arguments(prepared: Prepared, *, cuda: bool, half: str) -> TrainingArguments:
    settings = prepared.settings
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
        save_total_limit=None if settings.save_steps else 1,
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


# --- meanwhile ---


class _Watch(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Tells what happens, and does what is wished between two micro batches.

    Where no checkpoints were asked for it has one written every few minutes: a crash costs no more than that.
    """

    def __init__(self, prepared: Prepared, tell: Tell, orders: Orders) -> None:
        self._prepared, self._tell, self._orders = prepared, tell, orders
        self._tokens, self._first = 0, prepared.beginning.updates
        self._began = time.monotonic()
        self._saved, self._saved_at = -1, self._began
        self.update, self.evaluated = self._first, -1
        self.diverged = False
        self.ending: Ending = "finished"
        self.loss: float | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def rate(self) -> float:
        """Tokens a second that were read, padding left out."""
        return self._tokens / self.seconds if self.seconds else 0.0

    def counted(self, rows: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, torch.Tensor]:
        """The collator, which counts tokens."""
        self._tokens += sum(len(row["input_ids"]) for row in rows)
        return collated(rows)

    def on_train_begin(self, _args: Any, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        self._began = self._saved_at = time.monotonic()
        self._tokens = 0
        self._first = self.update = state.global_step
        accumulation = self._prepared.settings.accumulation
        self._tell(Event("ready", update=self.update, updates=state.max_steps, accumulation=accumulation))

    def on_substep_end(self, _args: Any, _state: TrainerState, control: TrainerControl, **more: Any) -> None:
        self._obey(control, more["model"])

    def on_step_end(self, _args: Any, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        self.update = state.global_step
        if not self._prepared.settings.save_steps and time.monotonic() - self._saved_at >= _OWN_CHECKPOINTS:
            control.should_save = True
        self._obey(control, more["model"])

    def on_log(
        self, _args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        logs = logs or {}
        if "eval_loss" in logs:
            self.evaluated = state.global_step
            self._tell(Event("evaluation", update=state.global_step, loss=float(logs["eval_loss"])))
        if "loss" not in logs:
            return
        self.loss = float(logs["loss"])
        if not math.isfinite(self.loss):
            self.diverged = control.should_training_stop = True
            control.should_save = False
            return
        done = state.global_step - self._first
        left = self.seconds / done * (state.max_steps - state.global_step) if done > 0 else None
        self._tell(
            Event(
                "step", update=state.global_step, updates=state.max_steps, loss=self.loss,
                learning_rate=float(logs.get("learning_rate", 0.0)), epoch=float(logs.get("epoch", 0.0)),
                tokens_per_second=self.rate, seconds=self.seconds, seconds_left=left,
            )
        )  # fmt: skip
        if 0 < self.loss <= self._prepared.settings.stop_at_loss:
            self.ending = "loss reached"
            control.should_training_stop = True

    def on_save(self, _args: Any, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        self._saved, self._saved_at = state.global_step, time.monotonic()
        self._tell(Event("checkpoint", update=state.global_step))

    def _obey(self, control: TrainerControl, model: Any) -> None:
        while True:
            try:
                prompt = self._orders.samples.get_nowait()
            except queue.Empty:
                break
            paused = time.monotonic()
            self._tell(Event("sample", sample(model, self._prepared, prompt), prompt))
            self._began += time.monotonic() - paused  # what it says is not the training's time
        if self._orders.stop.is_set() and self.ending == "finished":
            self.ending = "stopped"
            control.should_training_stop = True
            # a checkpoint to go on from; one of before the first update would hold nothing
            control.should_save = self.update > 0 and self._saved != self.update


def sample(model: Any, prepared: Prepared, prompt: str) -> str:
    """What the half-trained model says after a prompt, always the likeliest; the training does not notice."""
    tokenizer = prepared.tokenizer
    ids = tokenizer.encode(prompt, add_bos=True) or [0]
    given = torch.tensor([ids], device=next(model.parameters()).device)
    training, model_was = torch.is_grad_enabled(), model.training
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng():
            made = model.generate(
                input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=_SAMPLE_TOKENS, do_sample=False,
                use_cache=True, pad_token_id=0, eos_token_id=sorted(tokenizer.end_ids) or None, temperature=None,
                top_p=None, top_k=None,
            )  # fmt: skip
    finally:
        model.train(model_was)
        torch.set_grad_enabled(training)
    new = made[0][len(ids) :].tolist()
    return b"".join(tokenizer.piece(token) for token in new).decode("utf-8", "replace")


# --- after ---


def _save(model: Any, folder: Path) -> None:
    """The adapter into its folder: each file is there whole or as it was before."""
    half_made = folder / ".saving"
    model.save_pretrained(str(half_made))
    for name in (WEIGHTS, CONFIG):
        (half_made / name).replace(folder / name)
    for rest in half_made.iterdir():
        rest.unlink()
    half_made.rmdir()


def _keep_log(prepared: Prepared, watch: _Watch, history: list[dict[str, Any]], ending: Ending) -> None:
    base = prepared.base.folder
    architectures = base.config.get("architectures")
    kept = {
        "base_model_name": base.path.name,
        "base_model_class": architectures[0] if isinstance(architectures, list) and architectures else "",
        "base_loaded_in_4bit": prepared.settings.load_in_4bit,
        "projections": list(prepared.settings.targets),
        **prepared.settings.model_dump(),
        "finished": ending != "stopped",
        "ending": ending,
        "began": prepared.beginning.why,
        "examples": len(prepared.examples.examples),
        "updates": watch.update,
        "loss": watch.loss,
        "train_runtime": round(watch.seconds, 2),
        "tokens_per_second": round(watch.rate, 1),
        "history": history,
        "versions": {each.__name__: each.__version__ for each in (torch, transformers, peft, datasets)},
    }
    write_text(prepared.folder / LOG_FILE, json.dumps(kept, indent=2, ensure_ascii=False))
