"""Holds back the first words of a reply while they may still become another speaker's name.

From the second line on, a stop string ends a reply in which the model speaks for somebody else; before the first word
there is no line break with which such a string could begin. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


class SpeakerGuard:
    """Takes a reply's text piece by piece; returns it as soon as it is clear who is speaking."""

    def __init__(self, others: Sequence[str] = ()) -> None:
        self._marks = tuple(f"{name.strip()}:" for name in others if name.strip())
        self.held = ""  # may still become a name
        self._open = bool(self._marks)
        self.speaker = ""  # the other speaker, once that is clear; nothing is returned then

    def push(self, text: str) -> str:
        """The text that can be shown now."""
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
        """The text still held back, at the end of the reply: it was not a name."""
        self._open, held, self.held = False, self.held, ""
        return "" if self.speaker else held


def guard_speaker(begun: str, pieces: Iterable[str], others: Sequence[str]) -> Iterator[str]:
    """The text after each piece, without leading space; it ends where one of the `others` begins to speak."""
    text, opening = begun, SpeakerGuard(others)
    for piece in pieces:
        text += opening.push(piece if text or opening.held else piece.lstrip())
        if opening.speaker:
            return
        yield text
    if rest := opening.rest():
        yield text + rest
