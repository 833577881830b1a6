"""Finds a family's marks in a reply, possible beginnings of marks, and text that may become a call. Pure."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from functools import lru_cache
from typing import Any

from modules.families.calls import LONGEST
from modules.families.family import CallMarks, Family


class MarkScanner:
    """A family's opening marks, and what each of them opens."""

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
        self._calls = tuple(mark for mark, what in self.what.items() if isinstance(what, CallMarks))

    def pending(self, held: str, checked: int) -> int:
        """The position from which the text could be the beginning of a mark."""
        if self.first.isdisjoint(held):
            return len(held)
        for place in range(max(checked, len(held) - self._longest + 1, 0), len(held)):
            if held[place] in self.first and any(mark.startswith(held[place:]) for mark in self._marks):
                return place
        return len(held)

    def grows(self, held: str, start: int) -> bool:
        """Whether the text from `start` on could become a longer mark than is there."""
        return len(held) - start < self._longest and any(
            len(mark) > len(held) - start and mark.startswith(held[start:]) for mark in self._marks
        )

    def call_in(self, held: str, at: int, marks: Container[int], start: int) -> tuple[int, str] | None:
        """Where a call that is opened by a control token begins, and its mark; searched from `start` on."""
        found = []
        for mark in self._calls:
            place = held.find(mark, start)
            while place >= 0 and at + place not in marks:
                place = held.find(mark, place + 1)
            found += [(place, mark)] if place >= 0 else []
        return min(found, default=None)


@lru_cache(maxsize=256)
def _looks(family: int, tools: bool, kept: Family) -> MarkScanner:
    del family
    return MarkScanner(kept, tools)


def make_scanner(family: Family, tools: bool) -> MarkScanner:
    return _looks(id(family), tools, family)


def find_first(text: str, marks: tuple[str, ...], start: int = 0) -> tuple[int, str]:
    """The first of these marks in a text, and its position; -1 without one."""
    found = [(place, -len(mark), mark) for mark in marks if (place := text.find(mark, start)) >= 0]
    place, _, mark = min(found, default=(-1, 0, ""))
    return place, mark


def find_partial(text: str, marks: tuple[str, ...]) -> int:
    """The position from which a text could be the beginning of one of these marks."""
    start = max(0, len(text) - max(map(len, marks), default=0) + 1)
    if not any(mark[0] in text[start:] for mark in marks):
        return len(text)
    for place in range(start, len(text)):
        if any(mark.startswith(text[place:]) for mark in marks):
            return place
    return len(text)


_PREFIXES = ("functions.", "call:", "function", "namespace functions.")


def may_call(inside: str, tools: Mapping[str, Any]) -> bool:
    """Whether the text after a call's mark may become a call: a word in a sentence may not."""
    text = inside.lstrip()
    if not text or text[0] in "{[<`]":
        return True
    return any(name.startswith(text[: len(name)]) for name in (*tools, *_PREFIXES))


_BARE = re.compile(r"\[?\s*\{\s*(?:\"(?P<key>\w*)(?P<closed>\")?)?")
_BARE_KEYS = ("name", "type", "function", "tool_name", "arguments", "parameters", "id")


def may_be_bare(held: str, tools: Mapping[str, Any]) -> bool:
    """Whether a reply that begins so may be a call without marks."""
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
