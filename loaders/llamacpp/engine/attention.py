"""Which of llama.cpp's two attention kernels to use on the CPU: the faster one on this machine.

A model of one layer with the real model's heads is timed with both, for some tenths of a second, with the chunk sizes
and number of threads used for prompts: the plain kernel writes more to memory and gains less from a second thread. The
result is kept on disk, by processor and shape of heads. It must not know of engines.
"""

from __future__ import annotations

import platform
import struct
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from errors import LoadCancelled, UserError
from loaders.llamacpp import openmp
from loaders.llamacpp.engine.threads import physical_cores
from loaders.llamacpp.gguf import GGUFHeader
from loaders.llamacpp.options import GGUFOptions
from loaders.llamacpp.placement.measurements import Measurements
from loaders.llamacpp.placement.placement import Placement
from loaders.llamacpp.thread_control import CoresBusy, measure_calmly
from loaders.memo import remembered

#: The chat to optimize for: tokens of its first prompt, turns after it, tokens of a message and of a reply in each.
#: The prompt's length is the depth of the measurement. Steps of a message's size are the ones that differ most.
PROMPT, TURNS, MESSAGE, REPLY = 1536, 4, 32, 128
#: The plain kernel must take at most this fraction of the other's time, because it needs more memory.
_WORTH = 0.9
_STARTS = 3  # of the program on a machine that measure
_PIECE, _ROUNDS = 512, 3  # rows of the steps that represent prompts, and how often each step is timed
#: Rows of each kind of step that is timed, and how many such steps the chat has.
_STEPS = {_PIECE: PROMPT // _PIECE, MESSAGE: TURNS, 1: TURNS * REPLY}
_PATIENCE = 2.0  # seconds after which no further round begins
_WIDTH, _VOCAB = 64, 32
_MOST = 16  # query heads of the test: their scores exceed the CPU's caches, as a model's do
_UINT32, _FLOAT32, _STRING = 4, 6, 8  # of GGUF metadata


@dataclass(frozen=True)
class AttentionHeads:
    """The attention of a layer: query heads for each key head, values in a head, key heads."""

    group: int
    size: int
    keys: int = 1


@dataclass(frozen=True)
class KernelTiming:
    """Seconds that the chat above spends in one layer's attention, with the flash kernel and without."""

    flash: float
    plain: float

    @property
    def choice(self) -> str:
        """A value of the option flash_attn: on or off."""
        return "off" if self.plain <= _WORTH * self.flash else "on"

    def in_words(self) -> str:
        winner, ratio = ("without", self.plain / self.flash) if self.choice == "off" else ("with", 1.0)
        compared = f"{ratio:.2f} of the time" if self.choice == "off" else "no faster without it"
        return f"attention {winner} the flash kernel: {compared} on {cpu_name()}, in a chat of {PROMPT:,} tokens"


@dataclass(frozen=True)
class KernelTrial:
    """What is timed, on which processor, with how many threads. `go_on` is called meanwhile by another thread."""

    heads: AttentionHeads
    on: str
    threads: int
    go_on: Callable[[], bool] = field(default=lambda: True, compare=False)

    @property
    def name(self) -> str:
        """All that the result depends on."""
        heads = self.heads
        shape = f"{heads.keys} x {heads.group} heads of {heads.size}"
        return f"attention in a chat, {shape}, {self.threads} threads, {self.on}"


def choose_kernel(
    header: GGUFHeader, options: GGUFOptions, *, card: bool, exact: bool, go_on: Callable[[], bool] = lambda: True
) -> tuple[str, str]:
    """The option flash_attn with "auto" resolved if that can be measured, and the reason ("" if none is needed).

    `card`: a GPU computes, and llama.cpp decides. `exact`: replies must not depend on parallel requests, which is only
    true for the flash kernel. Raises: LoadCancelled, once `go_on` returns False.
    """
    if options.flash_attn != "auto":
        return options.flash_attn, ""
    if card:
        return "auto", ""
    if quantized := [kind for kind in options.choose_cache_types() if kind != "f16"]:
        return "auto", f"attention with the flash kernel: required by a cache of type {quantized[-1]}"
    if exact:
        return (
            "auto",
            "attention with the flash kernel, whose results depend least on what else is in a step",
        )
    if skips_cells(header):
        return "auto", "attention with the flash kernel, which skips what the model's sliding window leaves out"
    heads = attention_heads(header)
    threads = options.threads_batch or options.threads or physical_cores()
    timing, busy = None, False
    if heads:
        trial = KernelTrial(heads, cpu_name(), threads, go_on)
        try:
            timing = _known_timing(trial)
        except CoresBusy:  # one thread waits for no other; the next load measures again
            timing, busy = openmp.run_in_short_thread(lambda: time_kernels(replace(trial, threads=1))), True
    if timing is None:
        return "auto", "attention chosen by llama.cpp: this model's heads cannot be measured separately"
    return timing.choice, timing.in_words() + (", with one thread: other programs were busy" if busy else "")


def _known_timing(trial: KernelTrial) -> KernelTiming | None:
    """The shortest times of the first starts on this machine: a program that nobody noticed may have disturbed one.

    Then they stay: a choice that changed would make states on disk useless. Raises: CoresBusy.
    """
    measurements = Measurements()
    known = list(measurements.attention_times(trial.name))
    if len(known) < _STARTS:
        try:
            timing = measure_calmly(lambda: openmp.run_in_short_thread(lambda: time_kernels(trial)))
        except CoresBusy:
            time_kernels.cache_clear()
            if not known:
                raise
        else:
            if timing is None:
                return None
            times = timing.flash, timing.plain
            if times not in known:  # this process remembers what it has measured
                measurements.note_attention_times(trial.name, times)
                known.append(times)
    return KernelTiming(min(flash for flash, _ in known), min(plain for _, plain in known))


def predict_kernel(header: GGUFHeader, options: GGUFOptions, *, exact: bool) -> str:
    """The likely result of `choose_kernel` on a machine without a GPU, if nothing may be measured yet."""
    if (
        options.flash_attn != "auto"
        or set(options.choose_cache_types()) != {"f16"}
        or exact
        or skips_cells(header)
        or attention_heads(header) is None
    ):
        return options.flash_attn
    return "off"


def skips_cells(header: GGUFHeader) -> bool:
    """Whether layers attend to a part of that chat only: the plain kernel computes the rest of their cache, too."""
    window = header.get("attention.sliding_window", 0)
    return isinstance(window, int) and 0 < window < PROMPT


def attention_heads(header: GGUFHeader) -> AttentionHeads | None:
    """Those of the layers that have any, in hybrid models too; None if there are none, or different ones."""
    try:
        count, keys = _heads_of_layers(header)
        if len(header.head_sizes) != 1:
            return None
        size = min(header.head_sizes)
        if not (0 < keys <= count <= 1024 and 0 < size <= 1024 and size % 2 == 0 and count % keys == 0):
            return None
        group = min(count // keys, 32)
        return AttentionHeads(group, size, min(keys, max(_MOST // group, 1)))
    except (TypeError, ValueError):
        return None


def _heads_of_layers(header: GGUFHeader) -> tuple[int, int]:
    """Query and key heads of the layers with attention: a list has one number per layer. Raises: ValueError."""
    count, keys = header.get("attention.head_count"), header.get("attention.head_count_kv")
    keys = count if keys is None else keys
    layers = max((len(each) for each in (count, keys) if isinstance(each, list)), default=1)
    every = [each if isinstance(each, list) else [each] * layers for each in (count, keys)]
    found = {pair for pair in zip(*every, strict=True) if all(pair)}
    if len(found) != 1:
        raise ValueError("the layers have different heads, or none")
    return found.pop()


@lru_cache(maxsize=1)
def cpu_name() -> str:
    """The processor's name as the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine() or "this processor"


@remembered(64, key=lambda trial: (trial.heads, trial.on, trial.threads))
def time_kernels(trial: KernelTrial) -> KernelTiming | None:
    """Time both kernels; None if llama.cpp cannot run the test model. Raises: LoadCancelled."""
    from loaders.llamacpp import native
    from loaders.llamacpp.batch import LlamaBatch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "heads.gguf"
        _write(path, trial.heads)
        try:
            weights = native.LlamaWeights(
                [str(path)], placement=Placement(), mmap=False, mlock=False, progress=lambda _: True,
                trial=True,
            )  # fmt: skip
        except UserError:
            return None
    size = {"n_ctx": PROMPT + 512, "n_batch": 512, "n_ubatch": 512, "n_seq_max": 1, "n_threads": trial.threads}
    size |= {"n_threads_batch": trial.threads, "offload_kqv": False, "op_offload": False}
    contexts: list[native.LlamaContext] = []
    began = time.perf_counter()
    try:
        for kernel in (1, 0):
            made = native.LlamaContext(weights, **size, flash_attn_type=kernel)
            contexts.append(made)
        batch = LlamaBatch(512)
        for context in contexts:
            for position in range(0, PROMPT, 512):
                _step(context, batch, 512, position, trial.go_on)
        best = [dict.fromkeys(_STEPS, float("inf")) for _ in contexts]
        for turn in range(_ROUNDS):
            if turn and time.perf_counter() - began > _PATIENCE:
                break
            for rows in _STEPS:
                for which, context in enumerate(contexts):  # alternately, so that disturbances affect both
                    start = PROMPT - rows + 1  # read again from its beginning
                    context.forget(0, start)
                    best[which][rows] = min(best[which][rows], _step(context, batch, rows, start, trial.go_on))
    except LoadCancelled:
        raise
    except UserError:
        return None
    finally:
        for context in contexts:
            context.close()
        weights.close()
    flash, plain = (sum(seconds[rows] * count for rows, count in _STEPS.items()) for seconds in best)
    return KernelTiming(flash, plain)


def _step(context: Any, batch: Any, rows: int, position: int, go_on: Callable[[], bool]) -> float:
    """Decode this many tokens; returns the seconds. Raises: LoadCancelled, UserError."""
    batch.clear()
    batch.add([1] * rows, position, 0, last=True, all_rows=False)
    with context.stop.unless(go_on):
        started = time.perf_counter()
        code = context.decode(batch)
        seconds = time.perf_counter() - started
    if code == 2:
        raise LoadCancelled
    if code:
        raise UserError("The attention measurement failed.")
    return max(seconds, 1e-6)


def _write(path: Path, heads: AttentionHeads) -> None:
    """Write a GGUF (version 3) of a Llama with one layer, few heads, no vocabulary and random weights."""
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
