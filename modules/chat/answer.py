"""A reply taken apart while it comes: what is said, what was thought before, which tools are called.

Feed it with `push`, end it with `finish`. Models mark thoughts with <think> and calls with <tool_call> (some with a
bare JSON object, or after [TOOL_CALLS]); what could be the beginning of a mark is held back, and so is the space that
may stand before one. Pure: text in, parts out.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["content", "reasoning", "call"]

_THINK = (("<think>", "</think>"), ("<|channel|>analysis<|message|>", "<|end|>"))
_CALL = (("<tool_call>", "</tool_call>"), ("[TOOL_CALLS]", ""))


@dataclass(frozen=True)
class Call:
    """One call of a tool; `arguments` is JSON text."""

    name: str
    arguments: str
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}")


@dataclass(frozen=True)
class Part:
    """A part of the reply."""

    kind: Kind
    text: str = ""
    call: Call | None = None


def opens_thought(begun: str, before: str) -> bool:
    """Whether a thought is open where the reply goes on; `begun` is what there is of it, `before` the prompt."""
    opening, closing = _THINK[0]
    said = begun if not before.rstrip().endswith(opening) else opening + begun
    return said.rfind(opening) > said.rfind(closing)


class Answer:
    """`thinking`: the prompt has opened a thought already. `tools`: the names that can be called; none, no calls."""

    def __init__(self, *, thinking: bool = False, tools: Collection[str] = ()) -> None:
        self._tools = frozenset(tools)
        self._open = [opening for opening, _ in _THINK] + ([opening for opening, _ in _CALL] if tools else [])
        self._closing: str | None = _THINK[0][1] if thinking else None
        self._kind: Kind = "reasoning" if thinking else "content"
        self._held = ""
        self._begun = False  # something has been said: spaces count from here on
        self._calls = 0
        self._trim = thinking or bool(tools)  # the space around a mark belongs to it

    def push(self, text: str) -> list[Part]:
        """The parts that are certain by now."""
        self._held += text
        parts: list[Part] = []
        while self._step(parts):
            pass
        return parts

    def finish(self) -> list[Part]:
        """No more text will come."""
        held, self._held = self._held, ""
        if self._kind == "call" or (self._tools and not self._begun and self._kind == "content"):
            calls = _calls(held, self._tools, bare=self._kind != "call")
            if calls:
                self._calls += len(calls)
                return [Part("call", call=call) for call in calls]
        return self._said(held.rstrip() if self._calls or self._kind == "reasoning" else held)

    @property
    def calls(self) -> int:
        """How many tools have been called."""
        return self._calls

    def _step(self, parts: list[Part]) -> bool:
        if self._closing is not None:
            place = self._held.find(self._closing) if self._closing else -1
            if place >= 0:
                inside, self._held = self._held[:place], self._held[place + len(self._closing) :]
                parts += self._closed(inside)
                self._closing, self._kind, self._begun = None, "content", False
                return True
            if self._kind == "reasoning":
                self._release(parts, [self._closing])
            return False
        if self._tools and not self._begun and self._held.lstrip()[:1] == "{":
            return False  # a bare JSON object may be a call: known at the end
        found = [(self._held.find(mark), mark) for mark in self._open if mark in self._held]
        if found:
            place, mark = min(found)
            before = self._held[:place]
            parts += self._said(before.rstrip() if mark in dict(_CALL) else before)
            self._held = self._held[place + len(mark) :]
            self._closing = {**dict(_THINK), **dict(_CALL)}[mark]
            self._kind = "reasoning" if mark in dict(_THINK) else "call"
            self._begun, self._trim = False, True
            return True
        self._release(parts, self._open)
        return False

    def _release(self, parts: list[Part], marks: list[str]) -> None:
        """Give out all but what could be the beginning of a mark."""
        held = self._held
        longest = max(len(mark) for mark in marks)
        pending = next(
            (
                i
                for i in range(max(0, len(held) - longest + 1), len(held))
                if any(m.startswith(held[i:]) for m in marks)
            ),
            len(held),
        )
        if self._trim and not self._begun and not held[:pending].strip():
            return
        if self._tools or self._kind == "reasoning":
            pending = len(held[:pending].rstrip())
        parts += self._said(held[:pending])
        self._held = held[pending:]

    def _closed(self, inside: str) -> list[Part]:
        if self._kind != "call":
            return self._said(inside.rstrip())
        calls = _calls(inside, self._tools)
        self._calls += len(calls)
        return [Part("call", call=call) for call in calls] or [Part("content", inside)]

    def _said(self, text: str) -> list[Part]:
        if self._trim and not self._begun:
            text = text.lstrip()
        if not text:
            return []
        self._begun = True
        return [Part("content" if self._kind == "call" else self._kind, text)]


def _calls(text: str, tools: Collection[str], *, bare: bool = False) -> list[Call]:
    """The calls in a text that should be JSON: an object, a list of them, or several objects in a row.

    None, where one of them calls what is not in `tools`. `bare`: no mark says that the text is a call.
    """
    decoder = json.JSONDecoder()
    text, at, found = text.strip(), 0, []
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return []
        for each in value if isinstance(value, list) else [value]:
            call = _call(each, bare)
            if call is None or call.name not in tools:
                return []
            found.append(call)
        while at < len(text) and text[at] in " \n\t,;":
            at += 1
    return found


#: What an object without a mark has to be, no more and no less: a reply may be JSON with a name in it.
_BARE = ({"name", "arguments"}, {"name", "parameters"})


def _call(value: Any, bare: bool) -> Call | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    if bare and set(value) not in _BARE:
        return None
    given = value.get("arguments", value.get("parameters", {}))
    # ASCII: a model may write half a character as an escape, which no UTF-8 could hold
    return Call(value["name"], given if isinstance(given, str) else json.dumps(given))
