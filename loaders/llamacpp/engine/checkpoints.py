"""Checkpoints: copies of what a sequence was at an earlier token, in the layers that do not keep it.

Full attention keeps every token, so a sequence can be truncated there. A recurrent state has no past, and a sliding
window drops it: only a copy leads back. A checkpoint serves every sequence that begins with its tokens. They are
bounded in number and bytes; the least recently used one is dropped first. Used by the engine's thread only; knows
nothing of requests.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loaders.labels import is_of

#: Reading this many tokens again costs less than a checkpoint is worth.
WORTH = 32
#: The same with a sliding window, where the flash kernel reads (see attention.py): fewer rows than this are not read as
#: a tile, and 62 of them took three times as long as 66.
WORTH_WINDOWED = 64
#: What opens a reply in a template, such as "<|im_start|>assistant\n<think>\n", has at most this many tokens.
_OPENING = 16
#: The last message starts at least this many tokens before that.
_MESSAGE = 8
#: In a long prompt there are more checkpoints, at least this many tokens apart, and at most so many.
_APART, _MORE = 512, 8


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A sequence's state after the tokens `ids`, in the layers that lose their past."""

    ids: tuple[int, ...]
    state: npt.NDArray[np.uint8]
    label: str = ""  # that of the request for which it was computed


class Checkpoints:
    """The checkpoints of one context, at most `most` of them with `capacity` bytes together."""

    def __init__(self, most: int = 0, capacity: int = 0) -> None:
        self._most = most
        self._capacity = capacity
        self._all: list[Checkpoint] = []  # least recently used first

    def __len__(self) -> int:
        return len(self._all)

    @property
    def size(self) -> int:
        """Bytes in use."""
        return sum(each.state.nbytes for each in self._all)

    def takes(self, size: int) -> bool:
        """Whether a checkpoint of this many bytes would be kept."""
        return self._most > 0 and 0 < size <= self._capacity

    def add(self, ids: Sequence[int], make: Callable[[], npt.NDArray[np.uint8]], label: str = "") -> None:
        """Keep the state after these tokens; `make` copies it, and is not called if there is a copy already."""
        key = tuple(ids)
        if found := next((each for each in self._all if each.ids == key), None):
            self.touch(found)
            return
        self._all.append(Checkpoint(key, make(), label))
        while len(self._all) > self._most or self.size > self._capacity:
            del self._all[0]

    def touch(self, checkpoint: Checkpoint) -> None:
        """It has been used."""
        self._all.remove(checkpoint)
        self._all.append(checkpoint)

    def before(self, wanted: tuple[int, ...]) -> Iterator[Checkpoint]:
        """Those whose tokens are a beginning of `wanted`, longest first."""
        for each in sorted(self._all, key=lambda each: -len(each.ids)):
            if wanted[: len(each.ids)] == each.ids:
                yield each

    def forget(self, label: str) -> None:
        """Drop those that were made for this label."""
        self._all = [each for each in self._all if not is_of(each.label, label)]

    def clear(self) -> None:
        """Drop all of them."""
        self._all.clear()


def choose_places(ids: Sequence[int], start: int, controls: Container[int], worth: int = WORTH) -> list[int]:
    """The lengths at which a prompt deserves a checkpoint, ascending; its first `start` tokens are held already.

    Before what opens the reply: there a regenerated reply starts, and there the next turn differs if it drops a
    thought. Before the last message, which may be edited. And some on the way there, if it is long. Messages are
    recognized by `controls`, the control tokens of templates. Each place splits a step, so at least `worth` tokens are
    between two of them.
    """
    last = len(ids) - 1  # at least one token is left to decode
    end = next((at for at in range(last, max(last - _OPENING, start), -1) if ids[at] in controls), last)
    message = next((at for at in range(end - _MESSAGE, start, -1) if ids[at] in controls), start)
    near = message if message - start >= worth else end
    apart = max(_APART, -(-(near - start) // (_MORE + 1)))
    places = [*range(start + apart, near - worth, apart)]
    if message - start >= worth:
        places.append(message)
    if end - max([start, *places]) >= worth:
        places.append(end)
    return places
