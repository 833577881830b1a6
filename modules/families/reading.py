"""How a reply to one prompt is to be read: its family, what the prompt has opened already, the tools that there are.

It is made where the prompt is made, and goes with it to whoever reads the reply. Pure.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from modules.families.family import Family, Thought
from modules.families.parser import Parser
from modules.families.table import GENERAL

#: Characters at the end of a prompt in which what it opens is looked for.
TAIL = 200


@dataclass(frozen=True)
class Reading:
    """`prefix` is what the prompt holds of the reply's turn, `begun` the words of the reply that stand in it."""

    family: Family = GENERAL
    prefix: str = ""
    begun: str = ""
    tools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def parser(self, marks: Container[int] = frozenset()) -> Parser:
        """A parser for what the model writes after the prompt."""
        parser = Parser(self.family, opened=self.opened, tools=self.tools, headed=self.headed)
        if self.begun:
            parser.push(self.begun)
        parser.starts(marks)
        return parser

    @property
    def opened(self) -> Thought | None:
        """The thought that the prompt has opened."""
        before = self.prefix.rstrip()
        return next((each for each in self.family.all_thoughts if before.endswith(each.opening.rstrip())), None)

    @property
    def headed(self) -> bool:
        """Whether the prompt ends within a header."""
        header = self.family.header
        if header is None:
            return False
        before = self.prefix.rstrip()
        return any(before.endswith((each, f"{each}assistant")) for each in header.openings)

    def thinking(self) -> bool:
        """Whether the reply goes on within a thought."""
        return self.parser().kind == "thought"
