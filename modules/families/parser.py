"""A reply taken apart while it comes: what is thought, what is said, which tools are called.

Feed it with `push`, end it with `finish`; how the text is cut makes no difference. What could be the beginning of a
mark is held back. A mark that is a control token is one wherever it stands; one that is written in letters counts only
where the family writes it: a thought at the beginning, a call outside of code whose words can be a call. Everything
else is text, to the letter. Pure: it knows nothing of models or of streams.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from modules.families.calls import LONGEST, Call, Tools, read_named
from modules.families.family import Calls, Family, Kind, Thought
from modules.families.look import first, in_string, look_of, may_be_bare, may_call, partial
from modules.families.place import Place

_LONGEST_HEADER = 400  # characters
_WAIT = -2  # whether a mark closes is told by what follows it
_NEVER: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Part:
    """A part of a reply; of a call, `call`."""

    kind: Kind
    text: str = ""
    call: Call | None = None


class Parser:
    """`opened`: a thought that the prompt has opened. `tools`: those that may be called; none, and no call is looked
    for. `marks`: the places (characters of all that is pushed) at which a control token stands; it may grow.
    `headed`: the prompt ends within a header.
    """

    def __init__(
        self,
        family: Family,
        *,
        opened: Thought | None = None,
        tools: Tools | None = None,
        marks: Container[int] = _NEVER,
        headed: bool = False,
    ) -> None:
        self._family = family
        self._tools: Tools = tools or {}
        self._marks = marks
        self._look = look_of(family, bool(tools))
        self._held = ""
        self._at = 0  # how many characters of all there are before `_held`
        self._checked = 0  # characters of `_held` in which no mark may begin any more
        self._place = Place()
        self._begun = False  # something has been said in this part: spaces count from here on
        self._trim = opened is not None or bool(tools) or headed
        self._calls = 0
        self._closing: tuple[str, ...] = opened.closing if opened else ()
        self._form: Calls | None = None
        self._opening = ""  # of what is open, as it stood there
        self._before = (self._begun, self._trim, self._place)  # what was true where it was opened
        self._sure = False  # what is open was opened by a control token
        self._tool = ""  # whom the header of what is open calls
        self._around = ""  # the mark that closes what stands around an answer
        self.kind: Kind = "thought" if opened else "text"
        self._header = headed and family.header is not None
        self._letter = ""  # the last one that is not held any more
        self._fresh = True  # nothing has come yet
        self._stale = False  # what is held has been looked at as a call, and is none

    def starts(self, marks: Container[int]) -> None:
        """What is pushed from here on is counted from 0: `marks` are places in it."""
        self._at, self._marks = -len(self._held), marks
        if self.kind == "thought":  # what follows is a part of its own for whoever reads it
            self._begun, self._trim = False, True

    @property
    def calls(self) -> int:
        """How many tools have been called."""
        return self._calls

    @property
    def thought(self) -> Thought | None:
        """The thought that is open, by the marks that end it."""
        return Thought("", self._closing) if self.kind == "thought" and self._closing else None

    def push(self, text: str) -> list[Part]:
        """The parts that are certain by now."""
        self._held += text
        parts: list[Part] = []
        while self._step(parts, last=False):
            pass
        return parts

    def finish(self) -> list[Part]:
        """No more text will come."""
        parts: list[Part] = []
        while self._step(parts, last=True):
            pass
        return parts

    # --- steps ---

    def _step(self, parts: list[Part], *, last: bool) -> bool:
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

    def _in_text(self, parts: list[Part], last: bool) -> bool:
        held = self._held
        if not self._begun and self._tools and not self._stale and self._bare(parts, last):
            return False
        match = self._next_mark()
        if match is None:
            self._give(parts, len(held) if last else self._look.pending(held, self._checked), last)
            return False
        start, mark = match
        what = self._look.what[mark]
        self._give(parts, start, last=False, before=what)
        space = self._drop(self._held.index(mark))  # what `_give` has left: it belongs to the mark, or to nobody
        self._sure = self._at in self._marks
        self._opening = space + self._drop(len(mark))
        self._before = (self._begun, self._trim, self._place)
        if isinstance(what, Thought):
            self._open("thought", what.closing)
        elif isinstance(what, Calls):
            self._form = what
            self._open("call", what.closing)
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

    def _in_thought(self, parts: list[Part], last: bool) -> bool:
        held = self._held
        place, mark = self._closed(held, last)
        if place >= 0:
            self._say(parts, self._drop(place).rstrip())
            self._drop(len(mark))
            self._around = dict(self._family.around).get(mark, "")
            self._open("text", ())
            return True
        if place == _WAIT and not last:
            return False
        if self._tools and (found := self._look.call_in(held, self._at, self._marks)) is not None:
            self._say(parts, self._drop(found).rstrip())  # it calls in the middle of its thought
            self._open("text", ())
            return True
        if last:
            self._say(parts, self._drop(len(held)).rstrip())
        else:
            end = min(partial(held, self._closing), self._look.pending(held, 0))
            self._say(parts, self._drop(len(held[:end].rstrip())))
        return False

    def _in_call(self, parts: list[Part], last: bool) -> bool:
        held = self._held
        place, mark = first(held, self._closing, self._checked)
        if place < 0:
            self._checked = max(0, len(held) - self._look.longest_end)
            if not last and (self._sure or self._tool or may_call(held, self._tools)) and len(held) < LONGEST:
                return False
            calls = self._read(held)
            if calls and last:
                self._called(parts, calls, len(held))
                return True
            return self._no_call(len(held) if last and self._sure else 0)
        calls = self._read(held[:place])
        if calls:
            self._called(parts, calls, place + len(mark))
            return True
        if in_string(held[:place]) and not last:  # the mark stands within an argument
            self._checked = place + len(mark)
            return True
        return self._no_call(place + len(mark))

    def _in_header(self, last: bool) -> bool:
        header = self._family.header
        assert header
        held = self._held
        if self._fresh and not any(
            each.startswith(held[: len(each)]) or held.startswith(each) for each in header.initial
        ):
            self._header, self._fresh = False, False  # the model keeps to no header
            return True
        place = held.find(header.end)
        if place < 0:
            if not last and len(held) < _LONGEST_HEADER:
                return False
            if last and (self._sure or self._fresh):
                self._drop(len(held))  # cut within a header: there is nothing to be said
            self._header, self._fresh = False, False
            return True
        self._fresh = self._header = False
        kind, tool = header.kind_of(held[:place])
        self._drop(place + len(header.end))
        if kind == "call" and tool.removeprefix("functions.") not in self._tools:
            kind = "text"
        self._tool = tool if kind == "call" else ""
        self._opening, self._form = "", None
        self._before = (False, True, Place())
        self._open(kind, header.stops if kind != "text" else ())
        return True

    # --- within ---

    def _next_mark(self) -> tuple[int, str] | None:
        """The first mark that counts, and where it stands."""
        held, at = self._held, self._checked
        found: re.Match[str] | None
        while found := self._look.openings.search(held, at):
            start, mark = found.start(), found[0]
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
        if isinstance(what, Thought) or what in ("around", "stray"):  # stray: the end of a thought that nobody opened
            return not begun
        if what == "close" and self._family.header is None:
            return mark == self._around or not begun
        return not self._place.in_code(before)

    def _bare(self, parts: list[Part], last: bool) -> bool:
        """Whether what is held may be a call without a mark; at the end, it is read."""
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

    def _closed(self, held: str, last: bool) -> tuple[int, str]:
        """Where the thought ends; a mark in quotes or backticks is a word of it, unless it is a control token."""
        at = 0
        while True:
            place, mark = first(held, self._closing, at)
            if place < 0 or self._at + place in self._marks:
                return place, mark
            end = place + len(mark)
            before = held[place - 1] if place else self._letter
            if before and before in "`\"'":
                if end == len(held) and not last:
                    return _WAIT, mark
                if held[end : end + 1] == before:
                    at = end
                    continue
            return place, mark

    def _read(self, inside: str) -> list[Call]:
        if self._tool:
            header = self._family.header
            read = header.read if header else None
            return (read(inside, self._tools) if read else []) or read_named(self._tool, inside, self._tools)
        return self._form.read(inside, self._tools) if self._form else []

    def _called(self, parts: list[Part], calls: list[Call], length: int) -> None:
        self._calls += len(calls)
        parts += [Part("call", call=call) for call in calls]
        self._drop(length)
        self._open("text", ())

    def _no_call(self, length: int) -> bool:
        """What was taken for a call is text after all: as far as `length` at once, the rest may hold marks."""
        self._held = self._opening + self._held
        self._at -= len(self._opening)
        self._checked = len(self._opening) + length
        self.kind, self._closing, self._tool, self._form = "text", (), "", None
        self._begun, self._trim, self._place = self._before
        self._stale = True
        return True

    def _open(self, kind: Kind, closing: tuple[str, ...]) -> None:
        self.kind, self._closing = kind, closing
        self._begun, self._trim, self._checked = False, True, 0
        self._place, self._stale = Place(), False

    def _give(self, parts: list[Part], end: int, last: bool, before: Any = None) -> None:
        """Say what is held up to `end`; the space at its end waits where it may belong to a mark."""
        text = self._held[:end]
        if not self._begun and not text.strip() and not (last and not self._trim):
            if last:
                self._drop(end)
            return
        if last and self._calls:
            text = text.rstrip()
            self._say(parts, self._drop(end)[: len(text)])
            return
        if not last and (self._tools or isinstance(before, Calls)):
            end = len(text.rstrip())
        self._say(parts, self._drop(end))

    def _drop(self, count: int) -> str:
        """Take this many characters out of what is held."""
        taken, self._held = self._held[:count], self._held[count:]
        self._at += count
        self._checked = max(0, self._checked - count)
        if count:
            self._fresh = False
            self._letter = taken[-1]
        return taken

    def _say(self, parts: list[Part], text: str) -> None:
        if self._trim and not self._begun:
            text = text.lstrip()
        if text:
            self._begun = True
            self._place.push(text)
            parts.append(Part(self.kind, text))
