"""What a training will take: memory by its parts, and time. Rough on purpose, and said before the first step.

The constants were measured on the demo model (docs/training.md tells how near they come). This module must not know
torch: the machine's speed is measured with NumPy's matrix product, which calls the same kind of library on a CPU.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modules.training.base_model import Base
from modules.training.lora_settings import LoraSettings

#: What the program, torch and transformers take before any weight.
_PROGRAM = 700_000_000
#: Bytes of one number of the adapter: itself, its gradient, and the optimizer's state, in float32.
_OPTIMIZER = {"adafactor": 9, "adamw_bnb_8bit": 10, "sgd": 8, "adagrad": 12}
#: Numbers that a layer keeps of each token for the way back, in widths of the model and of its feed-forward part.
_KEPT_WIDTHS, _KEPT_INNER = 10, 4
#: Copies of a token's logits that are there at once: themselves, in float32, their log-probabilities, their gradient.
_LOGIT_COPIES = 4
#: Of the speed of a bare matrix product, what a training reaches.
_EFFICIENCY = 0.55


@dataclass(frozen=True)
class Need:
    """Memory in bytes by its parts; seconds where the machine's speed is known."""

    weights: int
    adapter: int
    activations: int
    program: int
    free: int
    where: str  # "memory" or "the card"
    seconds: float | None = None

    @property
    def total(self) -> int:
        return self.weights + self.adapter + self.activations + self.program

    @property
    def fits(self) -> bool:
        return self.total <= self.free


def need(
    base: Base, settings: LoraSettings, lengths: Sequence[int], evaluated: Sequence[int], free: int, *, card: bool
) -> Need:
    """The memory of a training on examples of these lengths (tokens), and of its evaluation on others.

    `free` in bytes; `card`: it runs on CUDA.

    Raises: InvalidInput, for modules that the model does not have.
    """
    each = 2 if card else 4
    # peft takes what is not quantized to float32: embeddings and the output layer
    weights = (
        0.6 * (base.weights - base.looked_up) + 4 * base.looked_up if settings.load_in_4bit else each * base.weights
    )
    trained = sum(settings.lora_rank * (inputs + outputs) for inputs, outputs in base.targets(settings.targets))
    tokens = settings.micro_batch_size * max(lengths)
    inner = base.folder.number("intermediate_size", "n_inner", "ffn_dim") or 4 * base.width
    layer = _KEPT_WIDTHS * base.width + _KEPT_INNER * inner
    kept = base.width * base.layers + layer if settings.gradient_checkpointing else layer * base.layers
    logits = base.vocabulary * (each + 4 * (_LOGIT_COPIES - 1))
    # an evaluation keeps nothing for a way back
    read = settings.micro_batch_size * max(evaluated, default=0) * (layer * each + logits)
    return Need(
        weights=round(weights),
        adapter=trained * _OPTIMIZER.get(settings.optimizer, 16),
        activations=round(max(tokens * (kept * each + logits), read)),
        program=0 if card else _PROGRAM,
        free=free,
        where="the card" if card else "memory",
    )


def seconds(base: Base, settings: LoraSettings, lengths: Sequence[int], flops: float) -> float:
    """The time of all steps, at so many floating-point operations a second in a matrix product.

    Forward and back through frozen weights are 2 operations a weight and token each; what is computed twice adds 2.
    Padding to the longest of a micro batch is counted by the mean of what chance puts together.
    """
    padded = sum(_padded(lengths, settings.micro_batch_size))
    per_token = (6 if settings.gradient_checkpointing else 4) * base.computed
    return settings.epochs * padded * per_token / (flops * _EFFICIENCY)


def matrix_speed(size: int = 768, least: float = 0.15) -> float:
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
