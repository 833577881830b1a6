"""Typed objects over llama.cpp's C API: weights and context. The only module that keeps C pointers longer than one call
(batch.py has a step's tokens). It must not know of requests, threads or sampling order.

Importing it imports llama_cpp (0.3 s), so only `loader.load` does. Every object is freed by `close()`; nothing is left
to the garbage collector.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from errors import ModelFileError
from loaders.llamacpp import library
from loaders.llamacpp.batch import LlamaBatch
from loaders.llamacpp.engine.abort import AbortSwitch
from loaders.llamacpp.library import C
from loaders.llamacpp.placement import devices
from loaders.llamacpp.placement.placement import Placement

log = logging.getLogger("llama.cpp")

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

_ERROR = 4  # ggml_log_level
_LAYERS, _ROWS = 1, 2  # llama_split_mode
_LOST = 1  # LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY: recurrent states and sliding windows, without full attention
#: Messages of llama.cpp and its backends if memory is insufficient.
_FULL = re.compile(r"(?i)(?:unable|failed) to alloc|out ?of ?(?:device ?|host ?)?memory|alloc\w*( \w+)? failed")

_SIZE = re.compile(r"(?P<device>\S+)\s+(?P<kind>model|KV|RS|compute|output) buffer size =\s*(?P<mebibytes>[\d.]+) MiB")


class _Log:
    """llama.cpp's log, sent to Python's; the last errors are kept, because they explain why a load failed."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.sizes: dict[tuple[str, str], int] = {}
        self.counting = threading.Lock()
        self._callback = C.llama_log_callback(self._write)
        C.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _write(self, level: int, text: bytes, _: object) -> None:
        line = text.decode("utf-8", "replace").strip()
        if not line or line.strip(".") == "":
            return
        if match := _SIZE.search(line):
            key = (match["device"], match["kind"])
            self.sizes[key] = self.sizes.get(key, 0) + round(float(match["mebibytes"]) * 2**20)
        if level == _ERROR:
            self.complaints = [*self.complaints[-19:], line]
        # its warnings and errors explain failures that we report ourselves: they go to the debug log
        log.debug("%s", line)


_log = _Log()


class _Numa:
    """What llama.cpp has been told. It takes that once, for as long as the process runs."""

    #: Its numbers for what the option may be (ggml_numa_strategy).
    NUMBERS: ClassVar[Mapping[str, int]] = {"on": 1, "isolate": 2, "numactl": 3}

    def __init__(self) -> None:
        self.used = "off"

    def use(self, wanted: str) -> None:
        if self.used == "off" and wanted in self.NUMBERS:
            C.llama_numa_init(self.NUMBERS[wanted])
            self.used = wanted


_numa = _Numa()


def initialize(numa: str = "off") -> str:
    """Start llama.cpp with the backends beside its library. Calling it again does nothing. `numa`: as the option;
    returns what is in use, that of the first call in which it was not off. Raises: BrokenPackage.
    """
    library.load_backends()
    C.llama_backend_init()
    _numa.use(numa)
    return _numa.used


def clear_last_errors() -> None:
    """Called before something that may fail, so that `last_error` covers only that."""
    _log.complaints.clear()


@contextmanager
def track_allocations() -> Iterator[None]:
    """While inside, `allocated_sizes` covers only this allocation: two loads at once take turns."""
    with _log.counting:
        _log.sizes.clear()
        yield


def allocated_sizes() -> dict[tuple[str, str], int]:
    """The buffers that llama.cpp has reported: device and kind (model, KV, compute, output) to bytes."""
    return dict(_log.sizes)


def last_error(default: str) -> str:
    """llama.cpp's last error, as a clause without the function name."""
    for line in reversed(_log.complaints):
        _, _, clause = line.partition(": ")
        if clause and "failed to load model" not in line:
            return f"llama.cpp says: {' '.join(clause.split())}"  # it may contain text from the file
    return default


class LlamaOutOfMemory(ModelFileError):
    """llama.cpp could not allocate a buffer."""


def _failure(name: str, default: str) -> ModelFileError:
    """The error for llama.cpp's messages."""
    full = any(_FULL.search(line) for line in _log.complaints)
    return (LlamaOutOfMemory if full else ModelFileError)(name, last_error(default))


class LlamaWeights:
    """A model's weights and vocabulary in memory."""

    def __init__(
        self,
        paths: Sequence[str],
        *,
        placement: Placement,
        mmap: bool,
        mlock: bool,
        progress: Callable[[float], bool],
        pretend: bool = False,
        trial: bool = False,
    ) -> None:
        """Load; `progress` gets 0 to 1 and returns False to cancel. Raises: ModelFileError, LlamaOutOfMemory.

        `pretend`: read the vocabulary and plan the tensors, but allocate no memory for them. `trial`: without the
        copies of weights that llama.cpp rearranges for the CPU.
        """
        params = C.llama_model_default_params()
        params.no_alloc = pretend
        params.use_extra_bufts = not trial
        layers = placement.layers if placement.cards else 0
        listed = devices.make_device_list(placement.cards if layers else ())
        params.devices = ctypes.cast(listed, ctypes.c_void_p)
        params.n_gpu_layers = layers
        params.split_mode = _ROWS if placement.rows else _LAYERS
        if layers and placement.experts:
            overrides = devices.keep_experts_in_memory(placement.experts)
            params.tensor_buft_overrides = ctypes.cast(overrides, ctypes.c_void_p)
        params.load_mode = {
            (True, False): C.LLAMA_LOAD_MODE_MMAP,
            (True, True): C.LLAMA_LOAD_MODE_MMAP_MLOCK,
            (False, False): C.LLAMA_LOAD_MODE_NONE,
            (False, True): C.LLAMA_LOAD_MODE_MLOCK,
        }[(mmap, mlock)]
        if placement.split and layers:
            shares = (ctypes.c_float * C.llama_max_devices())(*placement.split)
            params.tensor_split = shares
        callback = C.llama_progress_callback(lambda fraction, _: progress(fraction))
        params.progress_callback = callback
        clear_last_errors()
        names = (ctypes.c_char_p * len(paths))(*(os.fsencode(path) for path in paths))
        self.pointer: Any = C.llama_model_load_from_splits(names, len(paths), params)
        self.paths = tuple(paths)
        if not self.pointer:
            raise _failure(paths[0], "llama.cpp cannot read it")
        self.vocab: Any = C.llama_model_get_vocab(self.pointer)
        self.n_vocab: int = C.llama_vocab_n_tokens(self.vocab)

    def close(self) -> None:
        if self.pointer:
            C.llama_model_free(self.pointer)
            self.pointer = None


class LlamaContext:
    """A llama.cpp context: the KV cache of all sequences, and decoding."""

    def __init__(self, weights: LlamaWeights, **params: Any) -> None:
        """`params` are fields of llama_context_params. Raises: ModelFileError."""
        struct = C.llama_context_default_params()
        for name, value in params.items():
            setattr(struct, name, value)
        clear_last_errors()
        self.pointer: Any = C.llama_init_from_model(weights.pointer, struct)
        if not self.pointer:
            raise _failure("The model", "llama.cpp cannot create a context with these options")
        self.memory: Any = C.llama_get_memory(self.pointer)
        self.n_ctx: int = C.llama_n_ctx_seq(self.pointer)  # of one sequence: all of it if they share
        #: Whether all layers are recurrent, so that a checkpoint of a sequence is all of it.
        self.recurrent = bool(C.llama_model_is_recurrent(weights.pointer))
        self.can_cut = not (self.recurrent or C.llama_model_is_hybrid(weights.pointer))
        # llama.cpp allows it for recurrent models, too; but nothing can be removed from the middle of a recurrent state
        self.can_shift: bool = self.can_cut and C.llama_memory_can_shift(self.memory)
        #: Tokens that a layer with a sliding window looks back to; 0 for a model without such layers.
        self.window = max(int(C.llama_model_n_swa(weights.pointer)), 0)
        #: From this position on, a lone row is computed beside a second one, which is dropped; None: never. Its logits
        #: are then those that it has in a step with others: see engine/lone_rows.py.
        self.paired_from: int | None = None
        self._n_ubatch = int(C.llama_n_ubatch(self.pointer))
        self.n_vocab = weights.n_vocab
        #: Ends the current step, if the backend checks it (the CPU backend does).
        self.stop = AbortSwitch()
        asked = ctypes.cast(self.stop.function, C.ggml_abort_callback)
        C.llama_set_abort_callback(self.pointer, asked, self.stop.address)
        self._views: dict[int, Floats] = {}  # the address of llama.cpp's rows of logits
        self._threads = int(C.llama_n_threads(self.pointer)), int(C.llama_n_threads_batch(self.pointer))

    def decode(self, batch: LlamaBatch) -> int:
        """Compute one step and wait for it. 0 is success, 1 no room in the KV cache, 2 stopped by `stop`.

        Anything else is a failure.
        """
        paired = self.paired_from is not None and batch.size == 1 and batch.repeat(self.paired_from, self.n_ctx)
        code = int(C.llama_decode(self.pointer, batch.struct))
        if code == 0:
            C.llama_synchronize(self.pointer)  # a GPU may still be computing
        if paired:
            self.forget(*batch.drop_repeated())
        return code

    @property
    def threads(self) -> int:
        """The largest number of threads of a step."""
        return max(self._threads)

    def set_threads(self, one: int, several: int) -> None:
        """The number of threads for a step of one token, and for one of several. Between two steps."""
        self._threads = one, several
        C.llama_set_n_threads(self.pointer, one, several)

    def limit_threads(self, most: int) -> None:
        """Compute the next steps with at most this many of its threads. Between two steps."""
        one, several = self._threads
        C.llama_set_n_threads(self.pointer, min(one, most), min(several, most))

    def logits(self, row: int) -> Floats:
        """The logits of a batch row, shape (n_vocab,): a view that is valid until the next decode."""
        address = ctypes.addressof(C.llama_get_logits_ith(self.pointer, row).contents)
        view = self._views.get(address)
        if view is None:  # creating one takes longer than everything done with it
            if len(self._views) > 1024:
                self._views.clear()
            memory = (ctypes.c_float * self.n_vocab).from_address(address)
            view = self._views[address] = np.ctypeslib.as_array(memory)
        return view

    def forget(self, sequence: int, position: int = 0) -> bool:
        """Drop a sequence from a position on. False if the memory cannot be truncated there (recurrent models)."""
        return bool(C.llama_memory_seq_rm(self.memory, sequence, position, -1))

    def first_held(self, sequence: int) -> int:
        """The first position from which every layer holds a sequence; -1 when it holds nothing.

        Not 0 if layers have a sliding window and the cells outside of it were reused, or were not part of a copy.
        (llama.cpp keeps no holes: a lost position removes those before it, too.)
        """
        return int(C.llama_memory_seq_pos_min(self.memory, sequence))

    def holds(self, sequence: int, length: int) -> bool:
        """Whether a sequence truncated to `length` tokens holds everything that the next token needs."""
        if length == 0:
            return True
        last = int(C.llama_memory_seq_pos_max(self.memory, sequence))
        return last == length - 1 and self.serves(self.first_held(sequence), length)

    def serves(self, first: int, length: int) -> bool:
        """Whether `length` tokens, held from position `first` on, are everything that the token after them needs."""
        return not self.can_cut or 0 <= first <= first_needed_position(length, self.window)

    def goes_back(self, rows: int) -> bool:
        """Whether a sequence still holds its tokens when a step of this many rows that appends to it is stopped.

        A recurrent state is overwritten; with a sliding window, from the second chunk on, so are cells outside it.
        """
        return self.can_cut and (not self.window or rows <= self._n_ubatch)

    def fork(self, source: int, target: int, length: int) -> None:
        """Let an empty sequence share the first `length` tokens of another (of a cache whose cells are shared)."""
        C.llama_memory_seq_cp(self.memory, source, target, 0, length)

    def shift(self, sequence: int, keep: int, drop: int) -> None:
        """Drop `drop` tokens after the first `keep` and renumber those after them."""
        C.llama_memory_seq_rm(self.memory, sequence, keep, keep + drop)
        C.llama_memory_seq_add(self.memory, sequence, keep + drop, -1, -drop)

    def state_size(self, sequence: int) -> int:
        """The bytes that `save` would copy."""
        return int(C.llama_state_seq_get_size(self.pointer, sequence))

    def save(self, sequence: int) -> npt.NDArray[np.uint8]:
        """A copy of a sequence's cache."""
        state = np.empty(self.state_size(sequence), np.uint8)
        C.llama_state_seq_get_data(self.pointer, _bytes(state), state.size, sequence)
        return state

    def restore(self, sequence: int, state: npt.NDArray[np.uint8]) -> bool:
        """Restore a copy into an empty sequence. False when the cache has no room for it."""
        return bool(C.llama_state_seq_set_data(self.pointer, _bytes(state), state.size, sequence))

    @property
    def loses_past(self) -> bool:
        """Whether its layers do not keep what a sequence was at an earlier token: recurrent ones, sliding windows."""
        return not self.can_cut or 0 < self.window < self.n_ctx

    def checkpoint_size(self, sequence: int) -> int:
        """The bytes that `checkpoint` would copy."""
        return int(C.llama_state_seq_get_size_ext(self.pointer, sequence, _LOST))

    def checkpoint(self, sequence: int) -> npt.NDArray[np.uint8]:
        """A copy of what a sequence has in the layers that lose its past, for `rewind`."""
        state = np.empty(self.checkpoint_size(sequence), np.uint8)
        C.llama_state_seq_get_data_ext(self.pointer, _bytes(state), state.size, sequence, _LOST)
        return state

    def rewind(self, sequence: int, state: npt.NDArray[np.uint8], length: int) -> bool:
        """Go back to a checkpoint that was made when the sequence held the first `length` of its present tokens.

        The layers with full attention must still hold these. False if that fails; the sequence is empty then.
        """
        done = C.llama_state_seq_set_data_ext(self.pointer, _bytes(state), state.size, sequence, _LOST)
        if done and self.forget(sequence, length) and self.holds(sequence, length):
            return True
        self.forget(sequence)
        return False

    def clear(self, *, data: bool = True) -> None:
        """Drop all sequences; `data`: also overwrite their cells with zeros."""
        C.llama_memory_clear(self.memory, data)

    def close(self) -> None:
        if self.pointer:
            C.llama_free(self.pointer)
            self.pointer = None


def first_needed_position(length: int, window: int) -> int:
    """The first position that layers with a sliding window need for the token at position `length`: 0 without one."""
    return max(length - window + 1, 0) if window else 0


def _bytes(array: npt.NDArray[np.uint8]) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
