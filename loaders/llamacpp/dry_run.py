"""llama.cpp's own account of its buffers, without loading a weight: a process of its own asks it to pretend.

`python -m loaders.llamacpp.dry_run` reads a question as JSON and prints the answer. Weights and cache come from the
header (see memory.py); what is asked here are the compute buffers, which depend on the model's graph. A process of
its own, for llama.cpp ends the whole program where a file makes no sense to it.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from errors import LoadCancelled
from loaders.llamacpp import child

_PATIENCE = 60  # seconds
_FRESH = 30  # seconds for which an answer holds


@dataclass(frozen=True)
class Question:
    """`context`: fields of llama_context_params, sorted. `stamp` changes when the file does."""

    parts: tuple[str, ...]
    n_gpu_layers: int
    context: tuple[tuple[str, Any], ...]
    stamp: float = 0.0


@dataclass(frozen=True)
class Answer:
    """Bytes of compute buffers by device ("CPU", "CUDA0"), and the cards: name, free, total bytes."""

    buffers: dict[str, int]
    cards: tuple[tuple[str, int, int], ...] = ()


def asked(question: Question) -> Answer | None:
    """What llama.cpp says; None where it does not come back with an answer.

    An answer holds for a while: what the cards have free changes. That there was none is not kept.

    Raises: ModelFileError, where llama.cpp crashes over the file.
    """
    try:
        return _asked(question, int(time.monotonic() // _FRESH))
    except child.Crashed as error:
        raise error.about(Path(question.parts[0])) from None
    except (OSError, KeyError, LoadCancelled):
        return None


@lru_cache(maxsize=64)
def _asked(question: Question, _while: int) -> Answer:
    until = time.monotonic() + _PATIENCE
    value = child.run("loaders.llamacpp.dry_run", asdict(question), lambda: time.monotonic() < until)
    if value is None:
        raise KeyError
    return Answer(value["buffers"], tuple((name, free, total) for name, free, total in value["cards"]))


def _answer(question: Question) -> Answer:
    from loaders.llamacpp import native

    native.start(False)
    with native.counting():
        weights = native.Weights(
            question.parts,
            n_gpu_layers=question.n_gpu_layers,
            tensor_split=(),
            mmap=False,
            mlock=False,
            progress=lambda _: True,
            pretend=True,
        )
        context = native.Context(weights, **dict(question.context))
        sizes = native.sizes()
    context.close()
    weights.close()
    buffers: dict[str, int] = {}
    for (device, kind), size in sizes.items():
        if kind in ("compute", "output"):
            buffers[device] = buffers.get(device, 0) + size
    return Answer(buffers, tuple(native.cards()))


if __name__ == "__main__":
    given = json.loads(sys.stdin.read())
    made = _answer(
        Question(tuple(given["parts"]), given["n_gpu_layers"], tuple((name, value) for name, value in given["context"]))
    )
    sys.stdout.write(json.dumps(asdict(made)) + "\n")
