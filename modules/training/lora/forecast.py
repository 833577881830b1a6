"""Estimates what a training will take: memory by part, and time. Deliberately rough, and shown before the first step.

The constants were measured on the demo model (docs/training.md says how accurate they are). This module must not know
torch: the machine's speed is measured with NumPy's matrix product, which uses the same kind of library on a CPU.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modules.training.lora.base_model import TrainingBase
from modules.training.lora.settings import LoraSettings

#: What the program, torch and transformers take without any weights.
_PROGRAM = 700_000_000
#: Bytes per parameter of the adapter: itself, its gradient, and the optimizer's state, in float32.
_OPTIMIZER = {"adafactor": 9, "adamw_bnb_8bit": 10, "sgd": 8, "adagrad": 12}
#: Values per token that a layer stores for the backward pass, as multiples of the hidden and the feed-forward size.
_KEPT_WIDTHS, _KEPT_INNER = 10, 4
#: Simultaneous copies of a token's logits: themselves, in float32, their log-probabilities, their gradient.
_LOGIT_COPIES = 4
#: The fraction of a plain matrix product's speed that a training reaches.
_EFFICIENCY = 0.55


@dataclass(frozen=True)
class TrainingMemory:
    """Memory in bytes by part; seconds if the machine's speed is known."""

    weights: int
    adapter: int
    activations: int
    program: int
    free: int
    where: str  # "memory" or "GPU memory"
    seconds: float | None = None

    @property
    def total(self) -> int:
        return self.weights + self.adapter + self.activations + self.program

    @property
    def fits(self) -> bool:
        return self.total <= self.free


def estimate_training_memory(
    base: TrainingBase,
    settings: LoraSettings,
    lengths: Sequence[int],
    evaluated: Sequence[int],
    free: int,
    *,
    card: bool,
) -> TrainingMemory:
    """The memory of a training on examples of these lengths (tokens), and of its evaluation on others.

    `free` in bytes; `card`: it runs on CUDA. Raises: InvalidInput for modules that the model does not have.
    """
    each = 2 if card else 4
    # peft converts what is not quantized to float32: embeddings and the output layer
    weights = (
        0.6 * (base.weights - base.looked_up) + 4 * base.looked_up if settings.load_in_4bit else each * base.weights
    )
    trained = sum(settings.lora_rank * (inputs + outputs) for inputs, outputs in base.targets(settings.targets))
    tokens = settings.micro_batch_size * max(lengths)
    inner = base.folder.number("intermediate_size", "n_inner", "ffn_dim") or 4 * base.width
    layer = _KEPT_WIDTHS * base.width + _KEPT_INNER * inner
    kept = base.width * base.layers + layer if settings.gradient_checkpointing else layer * base.layers
    logits = base.vocabulary * (each + 4 * (_LOGIT_COPIES - 1))
    # an evaluation stores nothing for a backward pass
    read = settings.micro_batch_size * max(evaluated, default=0) * (layer * each + logits)
    return TrainingMemory(
        weights=round(weights),
        adapter=trained * _OPTIMIZER.get(settings.optimizer, 16),
        activations=round(max(tokens * (kept * each + logits), read)),
        program=0 if card else _PROGRAM,
        free=free,
        where="GPU memory" if card else "memory",
    )


def estimate_seconds(base: TrainingBase, settings: LoraSettings, lengths: Sequence[int], flops: float) -> float:
    """The time of all steps, at this many floating-point operations per second in a matrix product.

    Forward and backward through frozen weights take 2 operations per weight and token each; recomputation adds 2.
    Padding to the longest example of a micro batch is counted by the expected value for random batches.
    """
    padded = sum(_padded(lengths, settings.micro_batch_size))
    per_token = (6 if settings.gradient_checkpointing else 4) * base.computed
    return settings.epochs * padded * per_token / (flops * _EFFICIENCY)


def measure_matrix_speed(size: int = 768, least: float = 0.15) -> float:
    """Floating-point operations a second of this CPU in float32."""
    a = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    a @ a
    began, rounds = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < least:
        a @ a
        rounds += 1
    return 2 * size**3 * rounds / passed


def _padded(lengths: Sequence[int], micro: int) -> list[int]:
    order = np.random.default_rng(0).permutation(np.asarray(lengths))
    return [int(order[begin : begin + micro].max()) * len(order[begin : begin + micro])
            for begin in range(0, len(order), micro)]  # fmt: skip
