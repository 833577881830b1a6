"""Copies of sequences in main memory: chats that are not running, so that a return to one need not compute it again.

Bounded in bytes, least recently used out first. Used by the engine's thread alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

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


#: A full store takes new copies of which it could hold so many.
_SEVERAL = 4

#: Whether the first so many tokens can be used alone, of those that are held from one position to another:
#: (first position held, tokens held, tokens wanted).
Serves = Callable[[int, int, int], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """What the cache held of a sequence. `first`: the position from which on all layers are in it."""

    ids: tuple[int, ...]
    state: npt.NDArray[np.uint8]
    first: int


class SavedStates:
    """Copies of sequences, with the token ids that they hold."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._copies: list[Copy] = []  # least recently used first

    @property
    def size(self) -> int:
        """Bytes in use."""
        return sum(copy.state.nbytes for copy in self._copies)

    def clear(self) -> None:
        """Drop all copies."""
        self._copies.clear()

    def takes(self, context: Context, sequence: Sequence) -> bool:
        """Whether a copy of this sequence has room: beside those that are there, or as one of several.

        A store that is full goes on taking what is small beside it, in place of what was unused for longest.
        """
        size = context.state_size(sequence.id)
        return self.size + size <= self._capacity or size * _SEVERAL <= self._capacity

    def has_room(self, size: int) -> bool:
        """Whether so many bytes have room beside what is there."""
        return self.size + size <= self._capacity

    def save(self, context: Context, sequence: Sequence, serves: Serves) -> None:
        """Copy what a sequence holds, unless it is larger than the whole capacity.

        It takes the place of shorter copies that it can stand for; of those that it cannot, the longest stays.
        """
        ids = tuple(sequence.ids)
        if sequence.unsettled or context.state_size(sequence.id) > self._capacity:
            return
        # llama.cpp leaves out what lies outside a sliding window at the sequence's end
        first = max(context.first_held(sequence.id), len(ids) - context.window if context.window else 0)
        shorter = [copy for copy in self._copies if copy.ids == ids[: len(copy.ids)]]
        needed = [copy for copy in shorter if not serves(first, len(ids), len(copy.ids)) and len(copy.ids) < len(ids)]
        longest = max(needed, key=lambda copy: len(copy.ids), default=None)
        self._copies = [copy for copy in self._copies if copy not in shorter or copy is longest]
        self.put(Copy(ids, context.save(sequence.id), first))

    def put(self, copy: Copy) -> None:
        """Keep a copy; the least recently used ones make room for it."""
        self._copies.append(copy)
        while self.size > self._capacity:
            del self._copies[0]

    def take_out(self, copy: Copy) -> None:
        """Take a copy off the list."""
        self._copies.remove(copy)

    def best(self, wanted: tuple[int, ...], serves: Serves) -> tuple[Copy | None, int]:
        """The copy of which the longest beginning of `wanted` can be used, and that length; (None, 0) if none."""
        best: tuple[Copy | None, int] = (None, 0)
        for copy in self._copies:
            length = common_prefix(copy.ids, wanted)
            if length > best[1] and serves(copy.first, len(copy.ids), length):
                best = (copy, length)
        return best

    def alike(self, wanted: tuple[int, ...]) -> bool:
        """Whether a copy begins like `wanted`, be it of use or not."""
        return any(common_prefix(copy.ids, wanted) for copy in self._copies)
