"""A prompt made from messages by a template, with the places where a message's own text looks like control tokens.

`escape_control_tokens` breaks such text with a private-use character before a template gets it; `PromptText` removes
the characters again and remembers where they were; `encode_prompt_text` returns the ids, with that text as plain text.
It must not know of chats or templates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from errors import InvalidInput
from loaders.base import Tokenizer

#: Inserted into text that only looks like a control token. No template changes it.
BREAK = "\uf8f7"
_ESCAPED = "\\uf8f7"  # as JSON escapes it in ASCII


class PromptText(str):
    """The prompt as it is read. `breaks`: the positions, in characters, at which the name of a control token is
    broken.
    """

    breaks: tuple[int, ...] = ()

    @classmethod
    def of(cls, text: str) -> PromptText:
        """From a text that still contains the characters."""
        pieces = (text.replace(_ESCAPED, BREAK) if _ESCAPED in text else text).split(BREAK)
        made = cls("".join(pieces))
        breaks, at = [], 0
        for piece in pieces[:-1]:
            at += len(piece)
            breaks.append(at)
        made.breaks = tuple(breaks)
        return made

    def broken(self) -> str:
        """The text with the characters."""
        ends = (*self.breaks, len(self))
        return BREAK.join(self[start:end] for start, end in zip((0, *self.breaks), ends, strict=True))


@lru_cache(maxsize=16)
def _names(control: frozenset[str]) -> re.Pattern[str] | None:
    """A pattern for the names of control tokens."""
    longest_first = sorted((name for name in control if len(name) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def escape_control_tokens(tokenizer: Tokenizer) -> Callable[[Any], Any]:
    """Returns a function that turns control tokens in a value into plain text: a string, or all strings and keys of a
    JSON value.

    The function raises InvalidInput for a value that is nested too deeply.
    """
    names = _names(tokenizer.control)

    def text(value: str) -> str:
        while names and names.search(value):  # breaking one may leave the end of another
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


def encode_prompt_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a prompt without a start token. Written-out control tokens become control tokens, except where a
    `PromptText` marks them as plain text.
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
    """A text without control tokens; after one, some vocabularies put no space before the first word."""
    alone = tokenizer.encode("a", add_bos=False, special=False)
    mark = tokenizer.eos_token or tokenizer.bos_token
    if first or not mark or tokenizer.encode(f"{mark}a", add_bos=False, special=True)[-len(alone) :] == alone:
        return tokenizer.encode(text, add_bos=False, special=False)
    before = tokenizer.encode("\n", add_bos=False, special=False)
    ids = tokenizer.encode(f"\n{text}", add_bos=False, special=False)
    return ids[len(before) :] if ids[: len(before)] == before else tokenizer.encode(text, special=False)
