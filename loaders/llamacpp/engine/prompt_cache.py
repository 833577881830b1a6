"""Copies of sequences in main memory: idle chats, which need not be computed again when they continue.

Limited in bytes; the least recently used copy is dropped first. Used by the engine's thread only.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from errors import InvalidInput
from loaders.labels import is_of
from loaders.llamacpp.engine.checkpoints import Checkpoints
from loaders.llamacpp.engine.saved_state import SavedState
from loaders.llamacpp.engine.sequence_slot import SequenceSlot
from loaders.llamacpp.native import LlamaContext
from loaders.prefix import common_prefix

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_capacity(text: str, name: str = "cache_capacity") -> int:
    """The bytes of "2GiB", "800 MB", "0", as the value of this option. Raises: InvalidInput."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text or "0")
    if not match or match[2].upper() not in _UNITS:
        raise InvalidInput(f"{name} must be a size such as 2GiB or 800MiB (got {text!r}).")
    return int(float(match[1]) * _UNITS[match[2].upper()])


#: A full cache accepts new copies if it could hold this many of them.
_SEVERAL = 4

#: Whether the first tokens of a sequence that is held from one position to another can be used alone: (first position
#: held, tokens held, tokens needed).
Serves = Callable[[int, int, int], bool]


def copy_of(context: LlamaContext, sequence: SequenceSlot) -> SavedState:
    """A copy of a sequence that is not `unsettled`."""
    length = len(sequence.ids)
    # llama.cpp omits cells outside of a sliding window at the sequence's end
    first = max(context.first_held(sequence.id), length - context.window if context.window else 0)
    lasting = sequence.lasting and sequence.own == length
    return SavedState(tuple(sequence.ids), context.save(sequence.id), first, sequence.label, lasting)


class PromptCache:
    """Copies of sequences, with their token ids."""

    def __init__(self, capacity: int, checkpoints: Checkpoints | None = None) -> None:
        """`checkpoints` take their bytes from the same capacity."""
        self.checkpoints = Checkpoints() if checkpoints is None else checkpoints
        self._capacity = capacity
        self._copies: list[SavedState] = []  # least recently used first

    @property
    def size(self) -> int:
        """Bytes in use."""
        return sum(copy.state.nbytes for copy in self._copies) + self.checkpoints.size

    def clear(self) -> None:
        """Drop all copies and checkpoints."""
        self._copies.clear()
        self.checkpoints.clear()

    def forget(self, label: str) -> None:
        """Drop the copies and checkpoints of this label."""
        self._copies = [copy for copy in self._copies if not is_of(copy.label, label)]
        self.checkpoints.forget(label)

    def takes(self, context: LlamaContext, sequence: SequenceSlot) -> bool:
        """Whether a copy of this sequence fits: next to the existing ones, or as one of several.

        A full cache still accepts a comparatively small copy, replacing the least recently used ones.
        """
        size = context.state_size(sequence.id)
        return self.size + size <= self._capacity or size * _SEVERAL <= self._capacity

    def has_room(self, size: int) -> bool:
        """Whether this many bytes fit next to the existing copies."""
        return self.size + size <= self._capacity

    def save(self, context: LlamaContext, sequence: SequenceSlot, serves: Serves) -> None:
        """Copy a sequence's contents, unless they exceed the whole capacity.

        It replaces shorter copies that it can stand in for; of those that it cannot, the longest stays.
        """
        ids = tuple(sequence.ids)
        if sequence.unsettled or context.state_size(sequence.id) > self._capacity:
            return
        made = copy_of(context, sequence)
        first = made.first
        shorter = [copy for copy in self._copies if copy.ids == ids[: len(copy.ids)]]
        needed = [copy for copy in shorter if not serves(first, len(ids), len(copy.ids)) and len(copy.ids) < len(ids)]
        longest = max(needed, key=lambda copy: len(copy.ids), default=None)
        self._copies = [copy for copy in self._copies if copy not in shorter or copy is longest]
        self.put(made)

    def put(self, copy: SavedState) -> None:
        """Add a copy, or mark it as just used, dropping the least recently used ones if necessary."""
        self._copies = [*(each for each in self._copies if each is not copy), copy]
        self.trim()

    def trim(self) -> None:
        """Drop the least recently used copies until all fits."""
        while self._copies and self.size > self._capacity:
            del self._copies[0]

    def take_out(self, copy: SavedState) -> None:
        """Remove a copy."""
        self._copies.remove(copy)

    def best(self, wanted: tuple[int, ...], serves: Serves) -> tuple[SavedState | None, int]:
        """The copy with the longest usable prefix of `wanted`, and its length; (None, 0) if none."""
        best: tuple[SavedState | None, int] = (None, 0)
        for copy in self._copies:
            length = common_prefix(copy.ids, wanted)
            if length > best[1] and serves(copy.first, len(copy.ids), length):
                best = (copy, length)
        return best

    def holding(self, wanted: tuple[int, ...]) -> SavedState | None:
        """A copy that begins with all of these tokens."""
        return next((copy for copy in self._copies if copy.ids[: len(wanted)] == wanted), None)

    def longest(self, wanted: tuple[int, ...]) -> int:
        """How many of these tokens a copy begins with, usable or not."""
        return max((common_prefix(copy.ids, wanted) for copy in list(self._copies)), default=0)

    def lasting(self) -> list[SavedState]:
        """The copies that may be kept on disk."""
        return [copy for copy in self._copies if copy.lasting]

    def labels(self) -> set[str]:
        """Whose copies there are. From any thread."""
        return {copy.label for copy in list(self._copies)}

    def alike(self, wanted: tuple[int, ...]) -> bool:
        """Whether a copy has a common prefix with `wanted`, usable or not."""
        return any(common_prefix(copy.ids, wanted) for copy in self._copies)
