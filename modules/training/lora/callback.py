"""Runs between the micro batches of a training: reports progress, carries out requests, saves checkpoints.

A TrainerCallback of transformers. It does not know who receives its reports.
"""

from __future__ import annotations

import logging
import math
import queue
import random
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState

from modules.training.lora.checkpoints import checkpoint_folder
from modules.training.lora.events import Ending, TrainingEvent
from modules.training.lora.preparation import PreparedTraining

log = logging.getLogger(__name__)

Tell = Callable[[TrainingEvent], None]

_SAMPLE_TOKENS = 80
#: Seconds between two checkpoints if none were requested.
OWN_CHECKPOINTS = 300


@dataclass
class TrainingControl:
    """Requests to a running training. May be set from any thread."""

    stop: threading.Event = field(default_factory=threading.Event)
    samples: queue.Queue[str] = field(default_factory=queue.Queue)


class TrainingStopped(Exception):
    """A stop was requested during an evaluation."""


class TrainingWatch(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """If no checkpoints were requested, one is written every few minutes, so that a crash loses no more than that."""

    def __init__(self, prepared: PreparedTraining, model: Any, tell: Tell, orders: TrainingControl) -> None:
        self._prepared, self._model, self._tell, self._orders = prepared, model, tell, orders
        self._settings = prepared.settings
        self._tokens, self._first = 0, prepared.beginning.updates
        self._began = self._saved_at = time.monotonic()
        self._random: _Random | None = None
        self._evaluating = False
        source = prepared.beginning.source
        self._own = [source] if prepared.beginning.own and source else []
        self.saved, self.update, self.evaluated = -1, self._first, -1
        self.diverged = False
        self.ending: Ending = "finished"
        self.loss: float | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def rate(self) -> float:
        """Tokens per second, without padding."""
        return self._tokens / self.seconds if self.seconds else 0.0

    @property
    def worth_keeping(self) -> bool:
        """Whether there is valid progress that no checkpoint contains yet."""
        return self.update > 0 and self.saved != self.update and not self.diverged and is_finite(self._model)

    def count(self, tokens: int) -> None:
        """Count tokens that were passed to the model."""
        self._tokens += tokens

    def rewind(self) -> None:
        """Restore the random generators to their state after the last update, so that a checkpoint resumes exactly
        there.
        """
        if self._random:
            self._random.restore()

    def kept(self, checkpoint: Path) -> None:
        """A checkpoint was written. Of the automatic ones, only the last is kept."""
        self.saved, self._saved_at = self.update, time.monotonic()
        self._tell(TrainingEvent("checkpoint", update=self.update))
        if not self._settings.save_steps:
            self.remove_own()
            self._own = [checkpoint]

    def remove_own(self) -> None:
        """Delete the automatic checkpoints."""
        for each in self._own:
            shutil.rmtree(each, ignore_errors=True)
        self._own = []

    # --- what the Trainer calls ---

    def on_train_begin(self, _args: Any, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        self._began = self._saved_at = time.monotonic()
        self._tokens = 0
        self._first = self.update = state.global_step
        accumulation = self._settings.accumulation
        self._tell(TrainingEvent("ready", update=self.update, updates=state.max_steps, accumulation=accumulation))

    def on_substep_end(self, _args: Any, _state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._obey(control)
        if control.should_training_stop:
            self.rewind()  # the half batch is computed again when training resumes

    def on_step_end(self, _args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.update, self._random = state.global_step, _Random()
        if not self._settings.save_steps and time.monotonic() - self._saved_at >= OWN_CHECKPOINTS:
            control.should_save = True
        if self.update >= state.max_steps:
            control.should_evaluate = False  # the last one follows when the adapter is saved
        self._obey(control)
        if control.should_save and not is_finite(self._model):
            self._give_up(control)

    def on_log(
        self, _args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        logs = logs or {}
        if "eval_loss" in logs:
            self.evaluated = state.global_step
            self._tell(TrainingEvent("evaluation", update=state.global_step, loss=float(logs["eval_loss"])))
        if "loss" not in logs:
            return
        self.loss = float(logs["loss"])
        if not math.isfinite(self.loss):
            self._give_up(control)
            return
        done = state.global_step - self._first
        left = self.seconds / done * (state.max_steps - state.global_step) if done > 0 else None
        self._tell(
            TrainingEvent(
                "step", update=state.global_step, updates=state.max_steps, loss=self.loss,
                learning_rate=float(logs.get("learning_rate", 0.0)), epoch=float(logs.get("epoch", 0.0)),
                tokens_per_second=self.rate, seconds=self.seconds, seconds_left=left,
            )
        )  # fmt: skip
        if 0 < self.loss <= self._settings.stop_at_loss:
            self.ending = "loss reached"
            control.should_training_stop = True

    def on_save(self, args: Any, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        self.kept(checkpoint_folder(args.output_dir, state.global_step))

    def on_prediction_step(self, _args: Any, _state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        if not self._evaluating:
            self._evaluating = True
            self._tell(TrainingEvent("doing", "Evaluating"))
        if self._orders.stop.is_set():
            self.ending = "stopped"
            raise TrainingStopped

    def on_evaluate(self, _args: Any, _state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        self._evaluating = False
        self._tell(TrainingEvent("doing", ""))

    # --- inside ---

    def _give_up(self, control: TrainerControl) -> None:
        self.diverged = control.should_training_stop = True
        control.should_save = False

    def _obey(self, control: TrainerControl) -> None:
        while True:
            try:
                prompt = self._orders.samples.get_nowait()
            except queue.Empty:
                break
            paused = time.monotonic()
            self._tell(TrainingEvent("sample", self._sampled(prompt), prompt))
            self._began += time.monotonic() - paused  # the time it takes does not count as training
        if self._orders.stop.is_set() and self.ending == "finished":
            self.ending = "stopped"
            control.should_training_stop = True
            # a checkpoint to resume from; before the first update it would be empty
            control.should_save = self.update > 0 and self.saved != self.update

    def _sampled(self, prompt: str) -> str:
        try:
            return generate_sample(self._model, self._prepared, prompt)
        except Exception as error:  # a failing sample must not end the training
            log.warning("generating a sample with the current adapter", exc_info=True)
            return f"(The sample failed: {' '.join(str(error).split())[:200]})"


class _Random:
    """The states of the random generators: Python's, NumPy's, torch's."""

    def __init__(self) -> None:
        self._python, self._numpy, self._torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

    def restore(self) -> None:
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)


def is_finite(model: Any) -> bool:
    """Whether all trained parameters are finite."""
    return all(bool(torch.isfinite(each).all()) for each in model.parameters() if each.requires_grad)


def generate_sample(model: Any, prepared: PreparedTraining, prompt: str) -> str:
    """Generate text from the half-trained model, greedily; the training is not affected."""
    tokenizer = prepared.tokenizer
    context = prepared.base.folder.context_length or 2048
    ids = (tokenizer.encode(prompt, add_bos=True) or [0])[-max(context - _SAMPLE_TOKENS, 1) :]
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
