"""A gap: tokens that a sequence holds and a prompt leaves out, as a chat does whose oldest messages no longer fit.

Pure; it must not know llama.cpp or chats.
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

from loaders.prefix import common_prefix

#: As many tokens after the gap must be the same: more than templates repeat with each message. In a text that repeats
#: itself, the first so many places are looked at.
_SURE, _MOST = 32, 50


class Gap(NamedTuple):
    """`dropped` tokens from `start` on; without them, the first `length` tokens are those of the prompt."""

    start: int = 0
    dropped: int = 0
    length: int = 0


def find_gap(held: list[int], wanted: list[int]) -> Gap:
    """The one gap that leaves the longest common prefix; Gap(0, 0, 0) if there is none."""
    start = common_prefix(held, wanted)
    after = wanted[start : start + _SURE]
    best = Gap()
    if len(after) < _SURE:
        return best
    places = (at for at in range(start + 1, len(held)) if held[at] == after[0] and held[at : at + _SURE] == after)
    for at in islice(places, _MOST):
        length = start + common_prefix(held[at:], wanted[start:])
        best = max(best, Gap(start, at - start, length), key=lambda gap: gap.length)
    return best
