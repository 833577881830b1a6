"""Is a GBNF grammar sound, and if not, where: every problem with its line, before any engine sees the text.

Text in, problems out; it knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass

from loaders.grammar.parser import Mistake, parse
from loaders.grammar.soundness import endless, missing
from loaders.grammar.tree import Grammar


@dataclass(frozen=True, order=True)
class Problem:
    """What is wrong and where; lines and columns count from 1."""

    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"Line {self.line}, column {self.column}: {self.message}"


def read(text: str) -> tuple[Grammar, list[Problem]]:
    """The tree of a grammar, and what is wrong with it, in the order of its lines; nothing when it is sound.

    A mistake in the writing ends the search; rules that are missing or never end are all found.
    """
    try:
        grammar = parse(text)
    except Mistake as mistake:
        return Grammar(), [_problem(text, mistake.at, str(mistake))]
    found = missing(grammar) or endless(grammar)
    return grammar, sorted({_problem(text, at, message) for at, message in found[:_MOST_SAID]})


def check(text: str) -> list[Problem]:
    """What is wrong with a grammar, as `read` says. An empty one is not checked."""
    return read(text)[1] if text.strip() else []


def rule_count(text: str) -> int:
    """How many rules a sound grammar has."""
    return len(parse(text).rules)


#: Problems that are told of one grammar.
_MOST_SAID = 100


def _problem(text: str, at: int, message: str) -> Problem:
    before = text[:at].replace("\r\n", "\n").replace("\r", "\n")
    sentence = message if message.endswith(".") else f"{message}."
    return Problem(before.count("\n") + 1, at - max(text.rfind("\n", 0, at), text.rfind("\r", 0, at)), sentence)
