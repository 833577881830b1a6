"""Which parts of a prompt are what: the system's words, yours, the model's; the rest is the template's. Pure.

A template may put a text anywhere. So it is run once more with a mark around each text: what stands between the marks
is the text, and without the marks the result must be the prompt itself. Where a text holds such marks already, or a
template does something to them, the texts are looked for one after another instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from errors import UserError

Kind = Literal["system", "user", "assistant", "begun"]

_END = "\uf8f3"
_OPENINGS: dict[str, Kind] = {"\uf8f4": "system", "\uf8f5": "user", "\uf8f6": "assistant"}
_MARKS = re.compile(f"[{''.join(_OPENINGS)}{_END}]")


@dataclass(frozen=True)
class Part:
    """From `start` up to `end`, in characters of the prompt. `begun`: the beginning of the reply."""

    kind: Kind
    start: int
    end: int


#: What is said, in order: who says it, and the text.
Said = Sequence[tuple[Kind, str]]


def marked(kind: Kind, text: str) -> str:
    """A text with the marks around it, to be rendered in its place."""
    opening = next(mark for mark, each in _OPENINGS.items() if each == kind)
    return f"{opening}{text}{_END}"


def parts_of(prompt: str, said: Said, begun: str, render_marked: Callable[[], str]) -> tuple[Part, ...]:
    """The parts of `prompt`, in order; `render_marked` makes it again with every text `marked`."""
    end = len(prompt) - len(begun) if begun and prompt.endswith(begun) else len(prompt)
    found = _between_marks(prompt, render_marked)
    if found is None:
        found = _one_after_another(prompt[:end], said)
    return (*found, *([Part("begun", end, len(prompt))] if end < len(prompt) else []))


def _between_marks(prompt: str, render_marked: Callable[[], str]) -> list[Part] | None:
    try:
        text = render_marked()
    except UserError:  # a template that looks into its texts: it took them without the marks
        return None
    parts: list[Part] = []
    open_: list[tuple[Kind, int]] = []
    plain = 0  # how much of the prompt has been passed
    at = 0
    for match in _MARKS.finditer(text):
        plain += match.start() - at
        at = match.end()
        if match[0] != _END:
            open_.append((_OPENINGS[match[0]], plain))
        elif not open_:
            return None
        else:
            kind, start = open_.pop()
            parts.append(Part(kind, start, plain))
    if open_ or _MARKS.sub("", text) != prompt:
        return None
    return [part for part in sorted(parts, key=lambda part: part.start) if part.start < part.end]


def _one_after_another(prompt: str, said: Said) -> list[Part]:
    parts: list[Part] = []
    at = 0
    for kind, text in said:
        start = prompt.find(text, at) if text else -1
        if start >= 0:
            at = start + len(text)
            parts.append(Part(kind, start, at))
    return parts
