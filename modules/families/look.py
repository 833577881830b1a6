"""What to look for in a reply: the marks of a family, where one may begin, and what may become a call. Pure."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from functools import lru_cache
from typing import Any

from modules.families.calls import LONGEST
from modules.families.family import Calls, Family


class Look:
    """What to look for in a family's text: its openings, and what each of them opens."""

    def __init__(self, family: Family, tools: bool) -> None:
        self.what: dict[str, Any] = {each.opening: each for each in family.all_thoughts if each.opening}
        self.what.update({closing: "stray" for each in family.all_thoughts for closing in each.closing})
        for opening, closing in family.around:
            self.what[opening] = "around"
            self.what[closing] = "around" if self.what.get(closing) == "around" else "close"
        if family.header:
            self.what.update(dict.fromkeys(family.header.openings, "header"))
            self.what.update(dict.fromkeys(family.header.stops, "close"))
        if tools:
            self.what.update({each.opening: each for each in family.all_calls})
        self.what.pop("", None)
        marks = sorted(self.what, key=len, reverse=True)
        self.openings = re.compile("|".join(map(re.escape, marks)))
        self._marks = tuple(marks)
        self.first = frozenset(mark[0] for mark in marks)
        self._longest = max(map(len, marks))
        ends = [mark for each in family.all_calls for mark in each.closing]
        self.longest_end = max(map(len, [*ends, *(family.header.stops if family.header else ())]))
        self._calls = tuple(mark for mark, what in self.what.items() if isinstance(what, Calls))

    def pending(self, held: str, checked: int) -> int:
        """From where on the text could be the beginning of a mark."""
        if self.first.isdisjoint(held):
            return len(held)
        for place in range(max(checked, len(held) - self._longest + 1, 0), len(held)):
            if held[place] in self.first and any(mark.startswith(held[place:]) for mark in self._marks):
                return place
        return len(held)

    def call_in(self, held: str, at: int, marks: Container[int]) -> int | None:
        """Where a call begins that is opened by a control token."""
        places = [held.find(mark) for mark in self._calls if mark in held]
        places = [place for place in places if at + place in marks]
        return min(places, default=None)


@lru_cache(maxsize=256)
def _looks(family: int, tools: bool, kept: Family) -> Look:
    del family
    return Look(kept, tools)


def look_of(family: Family, tools: bool) -> Look:
    return _looks(id(family), tools, family)


def first(text: str, marks: tuple[str, ...], start: int = 0) -> tuple[int, str]:
    """The first of these marks in a text, and where it stands; -1 without one."""
    found = [(place, -len(mark), mark) for mark in marks if (place := text.find(mark, start)) >= 0]
    place, _, mark = min(found, default=(-1, 0, ""))
    return place, mark


def partial(text: str, marks: tuple[str, ...]) -> int:
    """From where on a text could be the beginning of one of these marks."""
    start = max(0, len(text) - max(map(len, marks), default=0) + 1)
    if not any(mark[0] in text[start:] for mark in marks):
        return len(text)
    for place in range(start, len(text)):
        if any(mark.startswith(text[place:]) for mark in marks):
            return place
    return len(text)


_PREFIXES = ("functions.", "call:", "function", "namespace functions.")


def may_call(inside: str, tools: Mapping[str, Any]) -> bool:
    """Whether what stands after a call's mark may become one: a word in a sentence is none."""
    text = inside.lstrip()
    if not text or text[0] in "{[<`]":
        return True
    return any(name.startswith(text[: len(name)]) for name in (*tools, *_PREFIXES))


_BARE = re.compile(r"\[?\s*\{\s*(?:\"(?P<key>\w*)(?P<closed>\")?)?")
_BARE_KEYS = ("name", "type", "function", "tool_name", "arguments", "parameters", "id")


def may_be_bare(held: str, tools: Mapping[str, Any]) -> bool:
    """Whether a reply that begins so may be a call without a mark."""
    text = held.lstrip()
    if not text or len(text) > LONGEST:
        return False
    if text[0] == "{" or (text[0] == "[" and text[1:].lstrip()[:1] in ("", "{")):
        match = _BARE.match(text)
        key = match["key"] if match else None
        if not match or key is None:
            return not match or text[match.end() :].strip() == ""
        return key in _BARE_KEYS if match["closed"] else any(each.startswith(key) for each in _BARE_KEYS)
    if text[0] == "[":
        inner = text[1:].lstrip()
        return any(f"{name}(".startswith(inner[: len(name) + 1]) for name in tools)
    return False


def in_string(inside: str) -> bool:
    """Whether a JSON text ends within a string."""
    if inside.lstrip()[:1] not in ("{", "["):
        return False
    open_, escaped = False, False
    for letter in inside:
        if escaped:
            escaped = False
        elif letter == "\\":
            escaped = open_
        elif letter == '"':
            open_ = not open_
    return open_
