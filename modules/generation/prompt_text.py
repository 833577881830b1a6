"""A prompt that a template made of messages, with the places at which a message's own words look like control tokens.

`literally` breaks such words with a sign from the private use area before a template gets them; `PromptText` takes the
signs out again and remembers where they were; `ids_of` gives the ids, with those words as plain text. It must not know
of chats or of templates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from errors import InvalidInput
from loaders.base import Tokenizer

#: Stands within a control token's name that is none. No template touches it.
BREAK = "\uf8f7"
_ESCAPED = "\\uf8f7"  # as JSON writes it where it is ASCII


class PromptText(str):
    """The prompt as it is read. `breaks`: the places, in characters, at which a name of a control token is broken."""

    breaks: tuple[int, ...] = ()

    @classmethod
    def of(cls, text: str) -> PromptText:
        """A text in which signs still stand."""
        pieces = (text.replace(_ESCAPED, BREAK) if _ESCAPED in text else text).split(BREAK)
        made = cls("".join(pieces))
        breaks, at = [], 0
        for piece in pieces[:-1]:
            at += len(piece)
            breaks.append(at)
        made.breaks = tuple(breaks)
        return made

    def broken(self) -> str:
        """The text with the signs."""
        ends = (*self.breaks, len(self))
        return BREAK.join(self[start:end] for start, end in zip((0, *self.breaks), ends, strict=True))


@lru_cache(maxsize=16)
def _names(control: frozenset[str]) -> re.Pattern[str] | None:
    """What finds the names of control tokens."""
    longest_first = sorted((name for name in control if len(name) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def literally(tokenizer: Tokenizer) -> Callable[[Any], Any]:
    """What makes text of the control tokens in a value: a text, or a JSON value with all texts and keys in it.

    The function raises InvalidInput for one that is nested too deeply.
    """
    names = _names(tokenizer.control)

    def text(value: str) -> str:
        while names and names.search(value):  # what is broken may leave the end of another one
            value = names.sub(lambda found: found[0][0] + BREAK + found[0][1:], value)
        return value

    def made(value: Any) -> Any:
        if isinstance(value, str):
            return text(value)
        if isinstance(value, Mapping):
            return {made(key): made(each) for key, each in value.items()}
        return [made(each) for each in value] if isinstance(value, list | tuple) else value

    def whole(value: Any) -> Any:
        try:
            return made(value)
        except RecursionError:
            raise InvalidInput("A message or a tool is nested too deeply.") from None

    return whole


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a prompt without a start token. Control tokens written out are those tokens, but where a `PromptText`
    says that they are words.
    """
    names = _names(tokenizer.control)
    if not isinstance(text, PromptText) or not text.breaks or not names:
        return tokenizer.encode(text, add_bos=False, special=True)
    broken, ids, at, start = text.broken(), list[int](), 0, 0
    for mark in (*names.finditer(broken), None):
        end = mark.start() if mark else len(broken)
        if BREAK in broken[start:end]:
            if broken[at:start]:
                ids += tokenizer.encode(broken[at:start], add_bos=False, special=True)
            ids += _plain(tokenizer, broken[start:end].replace(BREAK, ""), first=start == 0)
            at = end
        start = mark.end() if mark else end
    return ids + (tokenizer.encode(broken[at:], add_bos=False, special=True) if broken[at:] else [])


def _plain(tokenizer: Tokenizer, text: str, *, first: bool) -> list[int]:
    """A text without control tokens; behind one, where some vocabularies put no space before the first word."""
    alone = tokenizer.encode("a", add_bos=False, special=False)
    mark = tokenizer.eos_token or tokenizer.bos_token
    if first or not mark or tokenizer.encode(f"{mark}a", add_bos=False, special=True)[-len(alone) :] == alone:
        return tokenizer.encode(text, add_bos=False, special=False)
    before = tokenizer.encode("\n", add_bos=False, special=False)
    ids = tokenizer.encode(f"\n{text}", add_bos=False, special=False)
    return ids[len(before) :] if ids[: len(before)] == before else tokenizer.encode(text, special=False)
