"""Splits a reply, while it arrives, into reasoning, answer and tool calls.

Feed it with `push`, end it with `finish`; how the text is cut into pieces makes no difference. Text that could be the
beginning of a mark is held back. A mark that is a control token counts anywhere; one that is written as text counts
only where the family writes it: reasoning at the beginning, a call outside of code whose content can be a call.
Everything else is passed through unchanged. Pure: it knows nothing of models or streams.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from modules.families.call_boundaries import ends_in_string, ends_in_value, may_continue
from modules.families.calls import LONGEST, ToolCall, Tools, read_named
from modules.families.code_tracker import CodeTracker
from modules.families.family import CallMarks, Family, Kind, ThoughtMarks
from modules.families.scanner import find_first, find_partial, make_scanner, may_be_bare, may_call

_LONGEST_HEADER = 400  # characters
_MOST_ENDS = 100  # closing marks inside the arguments of one call
_NEVER: frozenset[int] = frozenset()


@dataclass(frozen=True)
class ReplyPart:
    """A part of a reply; for a call, `call` is set."""

    kind: Kind
    text: str = ""
    call: ToolCall | None = None


class ReplyParser:
    """`opened`: reasoning that the prompt has opened. `tools`: the available tools; without any, calls are not looked
    for. `marks`: the positions (characters of everything pushed) of control tokens; the list may grow. `headed`: the
    prompt ends inside a header.
    """

    def __init__(
        self,
        family: Family,
        *,
        opened: ThoughtMarks | None = None,
        tools: Tools | None = None,
        marks: Container[int] = _NEVER,
        headed: bool = False,
    ) -> None:
        self._family = family
        self._tools: Tools = tools or {}
        self._marks = marks
        self._look = make_scanner(family, bool(tools))
        self._held = ""
        self._at = 0  # number of characters before `_held`
        self._checked = 0  # characters of `_held` in which no mark can begin any more
        self._place = CodeTracker()
        self._begun = False  # this part has text: spaces count from here on
        self._trim = opened is not None or bool(tools) or headed
        self._calls = 0
        self._closing: tuple[str, ...] = opened.closing if opened else ()
        self._form: CallMarks | None = None
        self._opening = ""  # the opening mark as it was written
        # state where it was opened
        self._before: tuple[bool, bool, CodeTracker, Kind, tuple[str, ...]] = (False, False, self._place, "text", ())
        self._cut = False
        self._ends = 0  # closing marks that were inside its arguments
        self._sure = False  # the open part was opened by a control token
        self._tool = ""  # the tool that the open part's header calls
        self._around = ""  # the mark that closes what surrounds an answer
        self.kind: Kind = "thought" if opened else "text"
        self._header = headed and family.header is not None
        self._letter = ""  # the last control token that is not held any more
        self._fresh = True  # nothing has arrived yet
        self._stale = False  # the held text was checked and is not a call

    def starts(self, marks: Container[int]) -> None:
        """Restart counting: `marks` are positions in what is pushed from here on."""
        self._at, self._marks = -len(self._held), marks
        if self.kind == "thought":  # what follows is a separate part for the reader
            self._begun, self._trim = False, True

    @property
    def calls(self) -> int:
        """How many tools have been called."""
        return self._calls

    @property
    def thought(self) -> ThoughtMarks | None:
        """The reasoning that is open, by its marks."""
        return ThoughtMarks("", self._closing) if self.kind == "thought" and self._closing else None

    def push(self, text: str) -> list[ReplyPart]:
        """The parts that are certain by now."""
        self._held += text
        parts: list[ReplyPart] = []
        while self._step(parts, last=False):
            pass
        return parts

    def finish(self, *, cut: bool = False) -> list[ReplyPart]:
        """No more text will come. `cut`: the model was interrupted, so an unfinished call does not count."""
        self._cut = cut
        parts: list[ReplyPart] = []
        while self._step(parts, last=True):
            pass
        return parts

    # --- steps ---

    def _step(self, parts: list[ReplyPart], *, last: bool) -> bool:
        """One step; False when more text is needed."""
        if not self._held and not last:
            return False
        if self._header:
            return self._in_header(last)
        if self.kind == "call":
            return self._in_call(parts, last)
        if self.kind == "thought":
            return self._in_thought(parts, last)
        return self._in_text(parts, last)

    def _in_text(self, parts: list[ReplyPart], last: bool) -> bool:
        held = self._held
        if not self._begun and self._tools and not self._stale and self._bare(parts, last):
            return False
        match = self._next_mark(last)
        if match is None:
            self._give(parts, len(held) if last else self._look.pending(held, self._checked), last)
            return False
        start, mark = match
        what = self._look.what[mark]
        self._give(parts, start, last=False, before=what)
        space = self._drop(self._held.index(mark))  # what `_give` has left: it belongs to the mark, or to nothing
        self._sure = self._at in self._marks
        self._opening = space + self._drop(len(mark))
        if isinstance(what, ThoughtMarks):
            self._open("thought", what.closing)
        elif isinstance(what, CallMarks):
            self._open_call(what)
        elif what == "header":
            self._header = True
            self._begun, self._trim = False, True
        elif what == "around":
            self._around = dict(self._family.around)[mark]
            self._begun, self._trim = False, True
        elif what == "close":
            self._around, self._trim = "", True
        else:
            self._trim = True
        return True

    def _in_thought(self, parts: list[ReplyPart], last: bool) -> bool:
        held = self._held
        place, mark, waits = self._closed(held, last)
        called = self._look.call_in(held, self._at, self._marks, self._checked) if self._tools else None
        if called and (place < 0 or called[0] < place):  # a call in the middle of reasoning
            self._say(parts, self._drop(len(held[: called[0]].rstrip())))
            space = self._drop(self._held.index(called[1]))
            self._sure = True
            self._opening = space + self._drop(len(called[1]))
            self._open_call(self._look.what[called[1]])
            return True
        if waits:
            return False
        if place >= 0:
            self._say(parts, self._drop(place).rstrip())
            self._drop(len(mark))
            self._around = dict(self._family.around).get(mark, "")
            self._open("text", ())
            return True
        if last:
            self._say(parts, self._drop(len(held)).rstrip())
        else:
            end = min(find_partial(held, self._closing), self._look.pending(held, 0))
            self._say(parts, self._drop(len(held[:end].rstrip())))
        return False

    def _in_call(self, parts: list[ReplyPart], last: bool) -> bool:
        held = self._held
        if not (self._sure or self._tool or may_call(held, self._tools)):
            return self._no_call(0)
        place, mark = find_first(held, self._closing, self._checked)
        if place < 0:
            self._checked = max(self._checked, len(held) - self._look.longest_end)
            if not last and len(held) < LONGEST:
                return False
            if self._ended_early(parts):
                return True
            broken = ends_in_value(held) or (self._cut and bool(self._closing) and may_continue(held))
            calls = [] if broken else self._read(held)
            if calls and last:
                self._called(parts, calls, len(held))
                return True
            return self._no_call(len(held) if last and self._sure else 0)
        inside = held[:place]
        calls = [] if ends_in_value(inside) and self._ends < _MOST_ENDS else self._read(inside)
        if calls:
            self._called(parts, calls, place + len(mark))
            return True
        if self._ends < _MOST_ENDS and (
            ends_in_value(inside) or ends_in_string(inside)
        ):  # the mark is inside an argument
            self._ends += 1
            self._checked = place + len(mark)
            return True
        return self._no_call(place + len(mark))

    def _ended_early(self, parts: list[ReplyPart]) -> bool:
        """Whether a closing mark that seemed to be inside an argument has ended a call after all."""
        place, mark = find_first(self._held, self._closing) if self._ends else (-1, "")
        calls = self._read(self._held[:place]) if place >= 0 else []
        if calls:
            self._called(parts, calls, place + len(mark))
        return bool(calls)

    def _in_header(self, last: bool) -> bool:
        header = self._family.header
        assert header
        held = self._held
        if self._fresh and not any(
            each.startswith(held[: len(each)]) or held.startswith(each) for each in header.initial
        ):
            self._header, self._fresh = False, False  # the model wrote no header
            return True
        place = held.find(header.end)
        if place < 0:
            if not last and len(held) < _LONGEST_HEADER:
                return False
            if last and (self._sure or self._fresh):
                self._drop(len(held))  # cut inside a header: there is no text
            self._header, self._fresh = False, False
            return True
        self._fresh = self._header = False
        kind, tool = header.kind_of(held[:place])
        self._drop(place + len(header.end))
        if kind == "call" and tool.removeprefix("functions.") not in self._tools:
            kind = "text"
        self._tool = tool if kind == "call" else ""
        self._opening, self._form, self._ends = "", None, 0
        self._before = (False, True, CodeTracker(), "text", ())
        self._open(kind, header.stops if kind != "text" else ())
        return True

    # --- within ---

    def _next_mark(self, last: bool) -> tuple[int, str] | None:
        """The first mark that counts, and its position; none while it may become a longer one."""
        held, at = self._held, self._checked
        found: re.Match[str] | None
        while found := self._look.openings.search(held, at):
            start, mark = found.start(), found[0]
            if not last and self._look.grows(held, start):
                return None
            if self._counts(start, mark):
                return start, mark
            at = self._checked = start + 1
        return None

    def _counts(self, start: int, mark: str) -> bool:
        what = self._look.what[mark]
        if self._at + start in self._marks:
            return True
        before = self._held[:start]
        begun = self._begun or bool(before.strip())
        if isinstance(what, ThoughtMarks) or what in (
            "around",
            "stray",
        ):  # a stray end of reasoning that was never opened
            return not begun
        if what == "close" and self._family.header is None:
            return mark == self._around or not begun
        return not self._place.in_code(before)

    def _bare(self, parts: list[ReplyPart], last: bool) -> bool:
        """Whether the held text may be a call without marks; at the end, it is parsed."""
        inside = self._held
        if not may_be_bare(inside, self._tools):
            return False
        if not last:
            return True
        calls = next((found for read in self._family.bare if (found := read(inside, self._tools))), [])
        if not calls:
            return False
        self._called(parts, calls, len(inside))
        return True

    def _closed(self, held: str, last: bool) -> tuple[int, str, bool]:
        """Where the reasoning ends, and whether more text is needed to decide. A mark in quotes or backticks belongs to
        the text, unless it is a control token.
        """
        at = 0
        while True:
            place, mark = find_first(held, self._closing, at)
            if place < 0:
                return place, mark, False
            if not last and any(each != mark and each.startswith(held[place:]) for each in self._closing):
                return place, mark, True  # the beginning of a longer mark
            end = place + len(mark)
            before = held[place - 1] if place else self._letter
            if self._at + place not in self._marks and before and before in "`\"'":
                if end == len(held) and not last:
                    return place, mark, True
                if held[end : end + 1] == before:
                    at = end
                    continue
            return place, mark, False

    def _read(self, inside: str) -> list[ToolCall]:
        if self._tool:
            header = self._family.header
            read = header.read if header else None
            return (read(inside, self._tools) if read else []) or read_named(self._tool, inside, self._tools)
        return self._form.read(inside, self._tools) if self._form else []

    def _called(self, parts: list[ReplyPart], calls: list[ToolCall], length: int) -> None:
        self._calls += len(calls)
        parts += [ReplyPart("call", call=call) for call in calls]
        self._drop(length)
        self._open("text", ())

    def _no_call(self, length: int) -> bool:
        """What looked like a call is text: the first `length` characters at once, the rest may contain marks."""
        self._held = self._opening + self._held
        self._at -= len(self._opening)
        self._begun, self._trim, self._place, self.kind, self._closing = self._before
        self._checked = len(self._opening) + (length if self.kind == "text" else 0)
        self._tool, self._form = "", None
        self._stale = True
        return True

    def _open_call(self, form: CallMarks) -> None:
        self._before = (self._begun, self._trim, self._place, self.kind, self._closing)
        self._form, self._ends = form, 0
        self._open("call", form.closing)

    def _open(self, kind: Kind, closing: tuple[str, ...]) -> None:
        self.kind, self._closing = kind, closing
        self._begun, self._trim, self._checked = False, True, 0
        self._place, self._stale = CodeTracker(), False

    def _give(self, parts: list[ReplyPart], end: int, last: bool, before: Any = None) -> None:
        """Return the held text up to `end`; trailing space is held back if it may belong to a mark."""
        text = self._held[:end]
        if not self._begun and not text.strip() and not (last and not self._trim):
            if last:
                self._drop(end)
            return
        if last and self._calls:
            text = text.rstrip()
            self._say(parts, self._drop(end)[: len(text)])
            return
        if not last and (self._tools or isinstance(before, CallMarks)):
            end = len(text.rstrip())
        self._say(parts, self._drop(end))

    def _drop(self, count: int) -> str:
        """Remove this many characters from the held text."""
        taken, self._held = self._held[:count], self._held[count:]
        self._at += count
        self._checked = max(0, self._checked - count)
        if count:
            self._fresh = False
            self._letter = taken[-1]
        return taken

    def _say(self, parts: list[ReplyPart], text: str) -> None:
        if self._trim and not self._begun:
            text = text.lstrip()
        if text:
            self._begun = True
            self._place.push(text)
            parts.append(ReplyPart(self.kind, text))
