"""How a reply to one prompt must be parsed: its family, what the prompt has already opened, and the available tools.

It is created together with the prompt and passed to whoever parses the reply. Pure.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from modules.families.family import Family, ThoughtMarks
from modules.families.parser import ReplyParser
from modules.families.table import GENERAL

#: Characters at the end of a prompt that are searched for an opened part.
TAIL = 200


@dataclass(frozen=True)
class ReplyFormat:
    """`prefix` is the part of the reply's turn in the prompt, `begun` the reply's text in it."""

    family: Family = GENERAL
    prefix: str = ""
    begun: str = ""
    tools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def parser(self, marks: Container[int] = frozenset()) -> ReplyParser:
        """A parser for what the model writes after the prompt."""
        parser = ReplyParser(self.family, opened=self.opened, tools=self.tools, headed=self.headed)
        if self.begun:
            parser.push(self.begun)
        parser.starts(marks)
        return parser

    @property
    def opened(self) -> ThoughtMarks | None:
        """The reasoning that the prompt has opened."""
        before = self.prefix.rstrip()
        return next((each for each in self.family.all_thoughts if before.endswith(each.opening.rstrip())), None)

    @property
    def headed(self) -> bool:
        """Whether the prompt ends inside a header."""
        header = self.family.header
        if header is None:
            return False
        before = self.prefix.rstrip()
        return any(before.endswith((each, f"{each}assistant")) for each in header.openings)

    def thinking(self) -> bool:
        """Whether the reply continues inside reasoning."""
        return self.parser().kind == "thought"
