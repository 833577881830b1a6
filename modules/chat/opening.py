"""The first words of a reply, held back while they may still become another speaker's name.

Behind the first line a stop string ends a reply in which the model speaks for somebody else; before the first word
there is no line end that such a string could begin with. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


class Opening:
    """Takes a reply's text piece by piece; gives it on as soon as it is clear whose words it is."""

    def __init__(self, others: Sequence[str] = ()) -> None:
        self._marks = tuple(f"{name.strip()}:" for name in others if name.strip())
        self.held = ""  # may still become a name
        self._open = bool(self._marks)
        self.speaker = ""  # who else speaks, once that is clear; nothing is given on then

    def push(self, text: str) -> str:
        """What can be shown now."""
        if not self._open:
            return "" if self.speaker else text
        self.held += text
        if any(mark != self.held and mark.startswith(self.held) for mark in self._marks):
            return ""
        self._open = False
        mark = next((mark for mark in self._marks if self.held.startswith(mark)), "")
        self.speaker = mark.removesuffix(":")
        return "" if mark else self.rest()

    def rest(self) -> str:
        """What is held still, at the end of the reply: it was no name after all."""
        self._open, held, self.held = False, self.held, ""
        return "" if self.speaker else held


def grown(begun: str, pieces: Iterable[str], others: Sequence[str]) -> Iterator[str]:
    """The text after each piece, without space at its beginning; it ends where one of the `others` begins to speak."""
    text, opening = begun, Opening(others)
    for piece in pieces:
        text += opening.push(piece if text or opening.held else piece.lstrip())
        if opening.speaker:
            return
        yield text
    if rest := opening.rest():
        yield text + rest
