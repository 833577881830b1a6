"""Which parts of a prompt come from the system message, the user and the model; the rest is the template's. Pure.

A template may put a text anywhere. So it is rendered again with marks around each text: what is between the marks
is the text, and without the marks the result must equal the prompt. If a text already contains such marks, or a
template changes them, the texts are searched for one after another instead.
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
class PromptPart:
    """From `start` up to `end`, in characters of the prompt. `begun`: the beginning of the reply."""

    kind: Kind
    start: int
    end: int


#: The texts in order: whose it is, and the text.
Said = Sequence[tuple[Kind, str]]


def mark_text(kind: Kind, text: str) -> str:
    """A text between marks, to be rendered in its place."""
    opening = next(mark for mark, each in _OPENINGS.items() if each == kind)
    return f"{opening}{text}{_END}"


def split_prompt(prompt: str, said: Said, begun: str, render_marked: Callable[[], str]) -> tuple[PromptPart, ...]:
    """The parts of `prompt`, in order; `render_marked` renders it again with `mark_text` applied to every text."""
    end = len(prompt) - len(begun) if begun and prompt.endswith(begun) else len(prompt)
    found = _between_marks(prompt, render_marked)
    if found is None:
        found = _one_after_another(prompt[:end], said)
    return (*found, *([PromptPart("begun", end, len(prompt))] if end < len(prompt) else []))


def _between_marks(prompt: str, render_marked: Callable[[], str]) -> list[PromptPart] | None:
    try:
        text = render_marked()
    except UserError:  # a template that inspects its texts may have taken a different branch
        return None
    parts: list[PromptPart] = []
    open_: list[tuple[Kind, int]] = []
    plain = 0  # position in the prompt up to which texts were found
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
            parts.append(PromptPart(kind, start, plain))
    if open_ or _MARKS.sub("", text) != prompt:
        return None
    return [part for part in sorted(parts, key=lambda part: part.start) if part.start < part.end]


def _one_after_another(prompt: str, said: Said) -> list[PromptPart]:
    parts: list[PromptPart] = []
    at = 0
    for kind, text in said:
        start = prompt.find(text, at) if text else -1
        if start >= 0:
            at = start + len(text)
            parts.append(PromptPart(kind, start, at))
    return parts
