"""The tokens of one decode step, as llama.cpp's C API takes them. Importing it imports llama_cpp."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from loaders.llamacpp.library import C


class LlamaBatch:
    """The tokens of one decode step: a llama_batch over NumPy arrays, filled by `add` and emptied by `clear`."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.size = 0
        self._token = np.zeros(capacity, np.int32)
        self._pos = np.zeros(capacity, np.int32)
        self._n_seq_id = np.ones(capacity, np.int32)
        self._seq_id = np.zeros(capacity, np.int32)
        self._logits = np.zeros(capacity, np.int8)
        base, step = self._seq_id.ctypes.data, self._seq_id.itemsize
        self._seq_pointers = np.array([base + i * step for i in range(capacity)], np.uintp)
        struct = C.llama_batch()
        for field, array in (
            ("token", self._token),
            ("pos", self._pos),
            ("n_seq_id", self._n_seq_id),
            ("seq_id", self._seq_pointers),
            ("logits", self._logits),
        ):
            declared = dict(C.llama_batch._fields_)[field]
            setattr(struct, field, ctypes.cast(array.ctypes.data, declared))
        struct.embd = None
        self.struct = struct

    def add(self, tokens: Sequence[int], position: int, sequence: int, *, last: bool, all_rows: bool) -> int:
        """Append tokens of one sequence from `position` on, requesting the logits of the last one, all, or none.

        Returns: the row of the last token, for `LlamaContext.logits`.
        """
        start, end = self.size, self.size + len(tokens)
        self._token[start:end] = tokens
        self._pos[start:end] = np.arange(position, position + len(tokens))
        self._seq_id[start:end] = sequence
        self._logits[start:end] = all_rows
        self._logits[end - 1] = last
        self.size = end
        self.struct.n_tokens = end
        return end - 1

    def repeat(self, first: int, end: int) -> bool:
        """Append the only token once more, at the next position, if both lie in [first, end)."""
        position = int(self._pos[0])
        if self.capacity < 2 or not first <= position < end - 1:
            return False
        self.add([int(self._token[0])], position + 1, int(self._seq_id[0]), last=True, all_rows=True)
        return True

    def drop_repeated(self) -> tuple[int, int]:
        """Remove what `repeat` has appended; returns its sequence and position."""
        self.size = self.struct.n_tokens = 1
        return int(self._seq_id[1]), int(self._pos[1])

    def clear(self) -> None:
        self.size = 0
        self.struct.n_tokens = 0
