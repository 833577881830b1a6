"""Copies of sequences in main memory: chats that are not running, so that a return to one need not compute it again.

Bounded in bytes, least recently used out first. Used by the engine's thread alone.
"""

from __future__ import annotations

import re
from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from errors import InvalidInput
from loaders.llamacpp.native import Context
from loaders.llamacpp.sequence import Sequence
from loaders.prefix import common_prefix

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def capacity_in_bytes(text: str) -> int:
    """The bytes of "2GiB", "800 MB", "0". Raises: InvalidInput."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text or "0")
    if not match or match[2].upper() not in _UNITS:
        raise InvalidInput(f"cache_capacity is a size such as 2GiB or 800MiB, not {text!r}.")
    return int(float(match[1]) * _UNITS[match[2].upper()])


class SavedStates:
    """States of sequences by the token ids that they hold."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._states: OrderedDict[tuple[int, ...], npt.NDArray[np.uint8]] = OrderedDict()  # oldest first

    @property
    def size(self) -> int:
        """Bytes in use."""
        return sum(state.nbytes for state in self._states.values())

    def clear(self) -> None:
        """Drop all copies."""
        self._states.clear()

    def takes(self, context: Context, sequence: Sequence) -> bool:
        """Whether a copy of this sequence has room beside those that are there."""
        return self.size + context.state_size(sequence.id) <= self._capacity

    def save(self, context: Context, sequence: Sequence) -> None:
        """Copy what a sequence holds, unless it is larger than the whole capacity."""
        ids = tuple(sequence.ids)
        if sequence.unsettled or context.state_size(sequence.id) > self._capacity:
            return
        # what is a beginning of this one serves nothing that this one does not
        for other in [other for other in self._states if other == ids[: len(other)]]:
            del self._states[other]
        state = context.save(sequence.id)
        self._states[ids] = state
        while self.size > self._capacity:
            self._states.popitem(last=False)

    def longest_prefix(self, wanted: list[int], *, whole: bool) -> int:
        """How many of the wanted tokens the best copy holds; `whole`: only copies that need not be cut count."""
        best = self._best(tuple(wanted), whole)
        return common_prefix(best, tuple(wanted)) if best else 0

    def take_out(self, wanted: list[int], *, whole: bool) -> tuple[tuple[int, ...], npt.NDArray[np.uint8]]:
        """The best copy for `wanted` and the tokens that it holds; it is on nobody's list any more.

        To be called when `longest_prefix` is not 0.
        """
        best = self._best(tuple(wanted), whole)
        assert best is not None
        return best, self._states.pop(best)

    def put_back(self, ids: tuple[int, ...], state: npt.NDArray[np.uint8]) -> None:
        """Keep a copy that was taken out after all."""
        self._states[ids] = state
        while self.size > self._capacity:
            self._states.popitem(last=False)

    def _best(self, wanted: tuple[int, ...], whole: bool) -> tuple[int, ...] | None:
        usable = [ids for ids in self._states if not whole or ids == wanted[: len(ids)]]
        return max(usable, key=lambda ids: common_prefix(ids, wanted), default=None)
