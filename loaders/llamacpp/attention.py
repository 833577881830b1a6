"""Which of llama.cpp's two kernels computes attention on the processor: the one that is faster here.

A model of one layer with the heads of the model in question is timed for both, some tenths of a second once for a
processor and a shape of heads, in the pieces and by the number of threads that prompts are read with: the plain kernel
writes more to memory, and gains less from a second thread. It must not know of engines.
"""

from __future__ import annotations

import platform
import struct
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from errors import UserError
from loaders.llamacpp.gguf import GGUFHeader
from loaders.llamacpp.options import GGUFOptions
from loaders.llamacpp.placement import Placement
from loaders.llamacpp.threads import physical_cores

#: The chat that is to be fast: tokens of its prompt and of its reply. The prompt is the depth that is measured at.
PROMPT, REPLY = 1536, 256
#: The plain kernel must take at most so much of the other's time: it needs more memory.
_WORTH = 0.9
_PIECE, _ROUNDS = 512, 3  # rows of the steps that stand for prompts, and how often each step is timed
_WIDTH, _VOCAB = 64, 32
_MOST = 16  # query heads of the trial: the scores of so many leave the processor's caches, as a model's do
_UINT32, _FLOAT32, _STRING = 4, 6, 8  # of GGUF metadata


@dataclass(frozen=True)
class Heads:
    """The attention of a layer: query heads for each key head, values in a head, key heads."""

    group: int
    size: int
    keys: int = 1


@dataclass(frozen=True)
class Timing:
    """Seconds that the chat above spends in one layer's attention, with the flash kernel and without."""

    flash: float
    plain: float

    @property
    def choice(self) -> str:
        """A value of the option flash_attn: on or off."""
        return "off" if self.plain <= _WORTH * self.flash else "on"

    def in_words(self) -> str:
        winner, ratio = ("without", self.plain / self.flash) if self.choice == "off" else ("with", 1.0)
        compared = f"{ratio:.2f} of the time" if self.choice == "off" else "no gain without"
        return f"attention {winner} the flash kernel: {compared} on {processor()}, at {PROMPT:,} tokens"


def choose(header: GGUFHeader, options: GGUFOptions, *, card: bool, exact: bool) -> tuple[str, str]:
    """The option flash_attn with "auto" resolved where that can be measured, and the reason ("" where none is needed).

    `card`: a graphics card computes, where llama.cpp knows best. `exact`: replies must not depend on what runs beside
    them, which holds with the flash kernel alone.
    """
    if options.flash_attn != "auto":
        return options.flash_attn, ""
    if card:
        return "auto", ""
    if quantized := [kind for kind in options.cache_types() if kind != "f16"]:
        return "auto", f"attention with the flash kernel: a cache of {quantized[-1]} needs it"
    if exact:
        return "auto", "attention with the flash kernel: with contexts of their own, replies do not depend on others"
    heads = heads_of(header)
    threads = options.threads_batch or options.threads or physical_cores()
    timing = measured(heads, processor(), threads) if heads else None
    if timing is None:
        return "auto", "attention as llama.cpp chooses: the heads of this model cannot be tried alone"
    return timing.choice, timing.in_words()


def expected(header: GGUFHeader, options: GGUFOptions, *, exact: bool) -> str:
    """What `choose` is likely to choose on a machine without a card, where nothing may be measured yet."""
    if options.flash_attn != "auto" or set(options.cache_types()) != {"f16"} or exact or heads_of(header) is None:
        return options.flash_attn
    return "off"


def heads_of(header: GGUFHeader) -> Heads | None:
    """None where the layers have none, or not all alike."""
    try:
        count, keys = header.get("attention.head_count"), header.get("attention.head_count_kv")
        keys = count if keys is None else keys
        if isinstance(count, list) or isinstance(keys, list) or len(header.head_sizes) != 1:
            return None
        size = min(header.head_sizes)
        if not (0 < keys <= count <= 1024 and 0 < size <= 1024 and size % 2 == 0 and count % keys == 0):
            return None
        group = min(count // keys, 32)
        return Heads(group, size, min(keys, max(_MOST // group, 1)))
    except (TypeError, ValueError):
        return None


@lru_cache(maxsize=1)
def processor() -> str:
    """Its name, as the system has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine() or "this processor"


@lru_cache(maxsize=64)
def measured(heads: Heads, on: str, threads: int) -> Timing | None:  # noqa: ARG001 - what was measured holds for it alone
    """Time both kernels on the processor `on`; None where llama.cpp cannot run the trial's model."""
    from loaders.llamacpp import native

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "heads.gguf"
        _write(path, heads)
        try:
            weights = native.Weights(
                [str(path)], placement=Placement(), mmap=False, mlock=False, progress=lambda _: True,
                trial=True,
            )  # fmt: skip
        except UserError:
            return None
    size = {"n_ctx": PROMPT + 512, "n_batch": 512, "n_ubatch": 512, "n_seq_max": 1, "n_threads": threads}
    size |= {"n_threads_batch": threads, "offload_kqv": False, "op_offload": False}
    contexts: list[native.Context] = []
    try:
        for kernel in (1, 0):
            made = native.Context(weights, **size, flash_attn_type=kernel)
            contexts.append(made)
        batch = native.Batch(512)
        for context in contexts:
            for position in range(0, PROMPT, 512):
                _step(context, batch, 512, position)
        best = [[float("inf")] * 2 for _ in contexts]
        for _ in range(_ROUNDS):
            for number, rows in enumerate((_PIECE, 1)):
                for which, context in enumerate(contexts):  # in turn: what disturbs one disturbs the other
                    start = PROMPT - rows + 1  # what stands there is read anew
                    context.forget(0, start)
                    best[which][number] = min(best[which][number], _step(context, batch, rows, start))
    except UserError:
        return None
    finally:
        for context in contexts:
            context.close()
        weights.close()
    flash, plain = (piece * PROMPT / _PIECE + one * REPLY for piece, one in best)
    return Timing(flash, plain)


def _step(context: Any, batch: Any, rows: int, position: int) -> float:
    """Decode so many tokens; returns the seconds. Raises: UserError."""
    batch.clear()
    batch.add([1] * rows, position, 0, last=True, all_rows=False)
    started = time.perf_counter()
    if context.decode(batch):
        raise UserError("The trial of attention did not compute.")
    return max(time.perf_counter() - started, 1e-6)


def _write(path: Path, heads: Heads) -> None:
    """A GGUF (version 3) of a Llama with one layer, few heads and no vocabulary, weights by chance."""
    queries, keys = heads.group * heads.keys * heads.size, heads.keys * heads.size
    shapes = {  # as ggml counts: columns, rows
        "token_embd.weight": (_WIDTH, _VOCAB), "output_norm.weight": (_WIDTH,), "blk.0.attn_norm.weight": (_WIDTH,),
        "blk.0.attn_q.weight": (_WIDTH, queries), "blk.0.attn_k.weight": (_WIDTH, keys),
        "blk.0.attn_v.weight": (_WIDTH, keys), "blk.0.attn_output.weight": (queries, _WIDTH),
        "blk.0.ffn_norm.weight": (_WIDTH,), "blk.0.ffn_gate.weight": (_WIDTH, _WIDTH),
        "blk.0.ffn_up.weight": (_WIDTH, _WIDTH), "blk.0.ffn_down.weight": (_WIDTH, _WIDTH),
    }  # fmt: skip
    metadata: Mapping[str, str | int | float] = {
        "general.architecture": "llama", "tokenizer.ggml.model": "none", "llama.vocab_size": _VOCAB,
        "llama.context_length": 2 * PROMPT, "llama.embedding_length": _WIDTH, "llama.block_count": 1,
        "llama.feed_forward_length": _WIDTH, "llama.attention.head_count": heads.group * heads.keys,
        "llama.attention.head_count_kv": heads.keys, "llama.attention.key_length": heads.size,
        "llama.attention.value_length": heads.size, "llama.rope.dimension_count": heads.size,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
    }  # fmt: skip
    chance = np.random.default_rng(1)
    header = struct.pack("<4sIQQ", b"GGUF", 3, len(shapes), len(metadata))
    for key, value in metadata.items():
        header += _text(key)
        if isinstance(value, str):
            header += struct.pack("<I", _STRING) + _text(value)
        elif isinstance(value, float):
            header += struct.pack("<If", _FLOAT32, value)
        else:
            header += struct.pack("<II", _UINT32, value)
    body = b""
    for name, shape in shapes.items():
        header += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(body))
        values: npt.NDArray[np.float32] = chance.standard_normal(int(np.prod(shape)), np.float32) * np.float32(0.1)
        body += _padded(values.tobytes())
    path.write_bytes(_padded(header) + body)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 32)
