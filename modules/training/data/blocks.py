"""Cuts raw text into overlapping blocks that begin and end at line breaks where possible.

A text is represented by its tokens and their positions. Knows nothing of files, and of models only that a tokenizer
returns both.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from errors import InvalidInput

Place = tuple[int, int]

#: The ids of a text, and the characters (begin, end) of each.
Encode = Callable[[str], tuple[Sequence[int], Sequence[Place]]]


@dataclass(frozen=True)
class BlockCut:
    """How a text is cut: blocks of `length` tokens that repeat `overlap` tokens of the previous block.

    `newline`: characters by which a block may be shortened at each end to begin and end with a line. `hard` splits the
    text into pieces that share no block. `least`: pieces with fewer characters are left out.
    """

    length: int
    overlap: int
    newline: int
    hard: str
    least: int


def cut_blocks(text: str, cut: BlockCut, encode: Encode) -> Iterator[Sequence[int]]:
    """The blocks of a text as token ids, in order. Each token of a piece is in one of its blocks.

    Raises: InvalidInput.
    """
    if cut.overlap >= cut.length:
        raise InvalidInput(f"The overlap of {cut.overlap} tokens must be less than the cutoff length of {cut.length}.")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for whole in text.split(cut.hard) if cut.hard else [text]:
        piece = whole.strip("\n")
        if piece.strip() and len(piece.strip()) >= cut.least:
            ids, places = encode(piece)
            for begin, end in _ranges(piece, cut, places):
                yield ids[begin:end]


def _ranges(text: str, cut: BlockCut, places: Sequence[Place]) -> Iterator[tuple[int, int]]:
    """The blocks of a piece, as ranges of its tokens."""
    begin = nominal = 0
    while True:
        end = whole = min(begin + cut.length, len(places))
        if end < len(places):
            end = _line_end(text, cut, places, begin, end)
        yield begin, end
        if end == len(places):
            return
        # the rest of a shortened block goes to the next; each begins later than the previous one
        nominal = max(nominal + cut.length - cut.overlap, begin + 1)
        begin = min(_line_begin(text, cut, places, min(nominal, whole)), end)


def _line_begin(text: str, cut: BlockCut, places: Sequence[Place], nominal: int) -> int:
    """The first token of the next line if it is near, else the nominal one."""
    at = places[nominal][0]
    line = text.find("\n", at, at + cut.newline) if cut.newline else -1
    return nominal if line < 0 else min(bisect_left(places, line + 1, key=lambda place: place[0]), len(places) - 1)


def _line_end(text: str, cut: BlockCut, places: Sequence[Place], begin: int, nominal: int) -> int:
    """The position after the last token of a line if its end is near, else the nominal end."""
    at = places[nominal - 1][1]
    line = text.rfind("\n", max(at - cut.newline, places[begin][0]), at) if cut.newline else -1
    found = bisect_right(places, line + 1, key=lambda place: place[1]) if line >= 0 else nominal
    return found if found > begin else nominal
