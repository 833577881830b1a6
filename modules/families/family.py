"""What is known of a family of models: facts, and where facts are not enough, one function that reads its calls.

Which family a model is of is told by its template (see `table`). This module holds the shapes of the facts; the facts
themselves are in `known`, one file a family. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from modules.families.calls import Call, Read, Tools, read_bare
from modules.families.markup import read_any

Kind = Literal["text", "thought", "call", "result"]


@dataclass(frozen=True)
class Thought:
    """The marks around a thought. The first of `closing` is the one that is written to end it."""

    opening: str
    closing: tuple[str, ...]


@dataclass(frozen=True)
class Calls:
    """The marks around a call, or around all calls of a reply, and what reads them.

    Without `closing` it goes on to the end of the reply.
    """

    opening: str
    closing: tuple[str, ...]
    read: Read


@dataclass(frozen=True)
class Header:
    """For families whose replies are messages with a header each, between one of `openings` and `end`.

    `kind_of` tells of a header what follows it, and which tool it calls ("" for none). `initial`: how the first
    header, whose opening stands in the prompt, may begin. `stops`: what ends such a message.
    """

    openings: tuple[str, ...]
    end: str
    kind_of: Callable[[str], tuple[Kind, str]]
    initial: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    read: Read | None = None  # a call's words, where they are not JSON


@dataclass(frozen=True)
class Family:
    """One family. All of `signs` stand in its templates.

    `around`: pairs of marks that stand around an answer and are not shown. `ends`: what ends its turn, beside the
    model's own end token; `others`: what begins the other side's. `bare`: how a call without any mark is read.
    `answer`: what is written after a thought that is ended from outside, where the closing mark is not enough.
    `forced`: what stands around the arguments of a call that has to be made, as JSON; NAME is the tool's.
    """

    name: str
    signs: tuple[str, ...] = ()
    thoughts: tuple[Thought, ...] = ()
    calls: tuple[Calls, ...] = ()
    header: Header | None = None
    around: tuple[tuple[str, str], ...] = ()
    ends: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    bare: tuple[Read, ...] = (read_bare,)
    answer: str = ""
    forced: tuple[str, str] | None = None

    @cached_property
    def all_thoughts(self) -> tuple[Thought, ...]:
        """Its own, and the one that models of every family have been taught by others."""
        return tuple({each.opening: each for each in (*self.thoughts, THINK)}.values())

    @property
    def own_thought(self) -> Thought:
        """In which marks a thought is written for it."""
        return self.thoughts[0] if self.thoughts and self.signs else THINK

    @cached_property
    def all_calls(self) -> tuple[Calls, ...]:
        """Its own, and the one that models are told of where their template knows no tools."""
        return tuple({each.opening: each for each in (TOLD, *self.calls)}.values())

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """All marks that may stand in a reply: none of them ends it."""
        found = [mark for each in self.all_thoughts for mark in (each.opening, *each.closing)]
        found += [mark for each in self.all_calls for mark in (each.opening, *each.closing)]
        found += [mark for pair in self.around for mark in pair]
        if self.header:
            found += [*self.header.openings, self.header.end, *self.header.stops]
        return tuple(dict.fromkeys(mark for mark in found if mark))

    def keeps(self, token: str) -> bool:
        """Whether a control token of this text has to be seen by the parser."""
        return bool(token.strip()) and any(token.strip() in mark for mark in self.all_control)

    @cached_property
    def all_control(self) -> tuple[str, ...]:
        """What may be written in control tokens: the marks, and what stands within calls."""
        return (*self.marks, *_WITHIN)

    def closes(self, thought: Thought) -> str:
        """What is written to end this thought, so that the answer follows."""
        return self.answer or f"\n{thought.closing[0]}\n\n"


THINK = Thought("<think>", ("</think>",))
TOLD = Calls("<tool_call>", ("</tool_call>",), read_any)

#: Control tokens that stand within a call and belong to how it is read.
_WITHIN = (
    "[ARGS]", "[CALL_ID]", "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>", "<|tool_sep|>",
    "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", "<|tool_call:begin|>", "<|tool_call:name|>",
    "<|tool_call:args|>", "<|tool_call:end|>", "<|constrain|>", '<|"|>', "<|open|>", "<|close|>", "<|sep|>",
    "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "]<]minimax[>[",
    "<arg_key:opensource>", "</arg_key:opensource>", "<arg_value:opensource>", "</arg_value:opensource>",
    "<tool_sep:opensource>", "<tool_call:opensource>", "</tool_call:opensource>", "<tool_sep>",
)  # fmt: skip


def thought(opening: str, *closing: str) -> Thought:
    """Marks around a thought."""
    return Thought(opening, closing)


def first_of(*readers: Read) -> Read:
    """What the first of these readers can read."""

    def read(inside: str, tools: Tools) -> list[Call]:
        return next((calls for each in readers if (calls := each(inside, tools))), [])

    return read
