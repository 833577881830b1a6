"""What is known of a model family: facts, and where facts are not enough, a function that parses its calls.

A model's family is recognized by its template (see `table`). This module defines the structures; the facts are in
`known`, one file per family. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from modules.families import call_form
from modules.families.call_form import CallForm
from modules.families.calls import Read, ToolCall, Tools, read_bare
from modules.families.markup import read_any

Kind = Literal["text", "thought", "call", "result"]


@dataclass(frozen=True)
class ThoughtMarks:
    """The marks around reasoning. The first of `closing` is the one to write to end it."""

    opening: str
    closing: tuple[str, ...]


@dataclass(frozen=True)
class CallMarks:
    """The marks around a call, or around all calls of a reply, and their parser.

    Without `closing`, it continues to the end of the reply.
    """

    opening: str
    closing: tuple[str, ...]
    read: Read


@dataclass(frozen=True)
class HeaderMarks:
    """For families whose replies are messages with a header each, between one of `openings` and `end`.

    `kind_of` returns what follows a header, and which tool it calls ("" for none). `initial`: how the first header may
    begin if its opening is in the prompt. `stops`: what ends such a message.
    """

    openings: tuple[str, ...]
    end: str
    kind_of: Callable[[str], tuple[Kind, str]]
    initial: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    read: Read | None = None  # what a call contains, if not JSON


@dataclass(frozen=True)
class Family:
    """One family. All of `signs` occur in its templates.

    `around`: pairs of marks around an answer that are not shown. `ends`: what ends its turn, in addition to the model's
    end token; `others`: what begins the other side's turn. `bare`: how a call without marks is parsed. `answer`: what
    is written after reasoning that is ended from outside, if the closing mark is not enough. `forms`: how it writes a
    call, if not in the common form; the first whose sign is in the template counts.
    """

    name: str
    signs: tuple[str, ...] = ()
    thoughts: tuple[ThoughtMarks, ...] = ()
    calls: tuple[CallMarks, ...] = ()
    header: HeaderMarks | None = None
    around: tuple[tuple[str, str], ...] = ()
    ends: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    bare: tuple[Read, ...] = (read_bare,)
    answer: str = ""
    forms: tuple[CallForm, ...] = ()

    @cached_property
    def all_thoughts(self) -> tuple[ThoughtMarks, ...]:
        """Its own, and the marks that models of every family have learned from others."""
        return tuple({each.opening: each for each in (*self.thoughts, THINK)}.values())

    @property
    def own_thought(self) -> ThoughtMarks:
        """The marks in which reasoning is written for it."""
        return self.thoughts[0] if self.thoughts and self.signs else THINK

    @cached_property
    def all_calls(self) -> tuple[CallMarks, ...]:
        """Its own, and the form used for models whose template does not support tools."""
        return tuple({each.opening: each for each in (TOLD, *self.calls)}.values())

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """All marks that may occur in a reply: none of them ends it."""
        found = [mark for each in self.all_thoughts for mark in (each.opening, *each.closing)]
        found += [mark for each in self.all_calls for mark in (each.opening, *each.closing)]
        found += [mark for pair in self.around for mark in pair]
        if self.header:
            found += [*self.header.openings, self.header.end, *self.header.stops]
        return tuple(dict.fromkeys(mark for mark in found if mark))

    def form_for(self, template: str) -> CallForm:
        """How a call is written for a model with this template."""
        if "tools" not in template and "functions" not in template:  # our own instructions explain this form
            return call_form.TOLD
        return next((each for each in self.forms if each.sign in template), call_form.TOLD)

    def keeps(self, token: str) -> bool:
        """Whether the parser must see the control token with this text."""
        return bool(token.strip()) and any(token.strip() in mark for mark in self.all_control)

    @cached_property
    def all_control(self) -> tuple[str, ...]:
        """Everything that may be written as control tokens: the marks, and what occurs inside calls."""
        return (*self.marks, *_WITHIN)

    def closes(self, thought: ThoughtMarks) -> str:
        """What to write to end this reasoning, so that the answer follows."""
        return self.answer or f"\n{thought.closing[0]}\n\n"

    def closes_for_call(self, thought: ThoughtMarks) -> str:
        """What to write to end this reasoning, so that a call follows."""
        return thought.closing[0] if self.answer else f"\n{thought.closing[0]}\n\n"


THINK = ThoughtMarks("<think>", ("</think>",))
TOLD = CallMarks("<tool_call>", ("</tool_call>",), read_any)

#: Control tokens that occur inside a call and are needed to parse it.
_WITHIN = (
    "[ARGS]", "[CALL_ID]", "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>", "<|tool_sep|>",
    "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", "<|tool_call:begin|>", "<|tool_call:name|>",
    "<|tool_call:args|>", "<|tool_call:end|>", "<|constrain|>", '<|"|>', "<|open|>", "<|close|>", "<|sep|>",
    "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "]<]minimax[>[",
    "<arg_key:opensource>", "</arg_key:opensource>", "<arg_value:opensource>", "</arg_value:opensource>",
    "<tool_sep:opensource>", "<tool_call:opensource>", "</tool_call:opensource>", "<tool_sep>",
)  # fmt: skip


def thought_marks(opening: str, *closing: str) -> ThoughtMarks:
    """Marks around reasoning."""
    return ThoughtMarks(opening, closing)


def try_readers(*readers: Read) -> Read:
    """The result of the first of these readers that can parse the text."""

    def read(inside: str, tools: Tools) -> list[ToolCall]:
        return next((calls for each in readers if (calls := each(inside, tools))), [])

    return read
