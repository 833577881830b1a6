"""Raw text as training data: cut into blocks that overlap and, where they can, begin and end with a line.

Knows nothing of files, nor of models but that a tokenizer gives ids with their places in the text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from errors import InvalidInput

#: The (begin, end) places of each token of a text.
Places = Callable[[str], Sequence[tuple[int, int]]]


@dataclass(frozen=True)
class Cut:
    """How a text is cut: blocks of `length` tokens that repeat `overlap` of the block before.

    `newline`: characters by which a block may be shortened at each end to begin and end with a line. `hard` parts the
    text into pieces that share no block. `least`: pieces with fewer characters are left out.
    """

    length: int
    overlap: int
    newline: int
    hard: str
    least: int


def blocks(text: str, cut: Cut, places: Places) -> list[str]:
    """The blocks of a text, in order. Raises: InvalidInput."""
    if cut.overlap >= cut.length:
        raise InvalidInput(
            f"The overlap of {cut.overlap} tokens must be less than the cutoff length of {cut.length}: each block has "
            "to bring something new."
        )
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    found: list[str] = []
    for piece in text.split(cut.hard) if cut.hard else [text]:
        if piece.strip() and len(piece.strip()) >= cut.least:
            found += _of_piece(piece.strip("\n"), cut, places(piece.strip("\n")))
    return found


def _of_piece(piece: str, cut: Cut, places: Sequence[tuple[int, int]]) -> list[str]:
    found = []
    for begin in range(0, len(places), cut.length - cut.overlap):
        end = min(begin + cut.length, len(places))
        first, last = places[begin][0], places[end - 1][1]
        # the very ends of a piece are whole already
        left, right = cut.newline if begin else 0, cut.newline if end < len(places) else 0
        found.append(_by_lines(piece, first, last, left, right))
        if end == len(places):
            break
    return [block for block in found if block.strip()]


def _by_lines(text: str, begin: int, end: int, left: int, right: int) -> str:
    if left and (line := text.find("\n", begin, min(begin + left, end))) >= 0:
        begin = line + 1
    if right and (line := text.rfind("\n", max(end - right, begin), end)) >= 0:
        end = line + 1
    return text[begin:end]
