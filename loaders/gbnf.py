"""Validates a GBNF grammar and reports every problem with its line, before any engine sees the text.

Text in, problems out; it knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass

from loaders.grammar.parser import GrammarSyntaxError, parse_grammar
from loaders.grammar.tree import Grammar
from loaders.grammar.validation import find_endless_rules, find_undefined_rules


@dataclass(frozen=True, order=True)
class GrammarProblem:
    """A problem and its position; lines and columns count from 1."""

    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"Line {self.line}, column {self.column}: {self.message}"


def read_grammar(text: str) -> tuple[Grammar, list[GrammarProblem]]:
    """The tree of a grammar, and its problems in the order of lines; none if it is valid.

    A syntax error ends the check; missing and endless rules are all reported.
    """
    try:
        grammar = parse_grammar(text)
    except GrammarSyntaxError as mistake:
        return Grammar(), [_problem(text, mistake.at, str(mistake))]
    found = find_undefined_rules(grammar) or find_endless_rules(grammar)
    return grammar, sorted({_problem(text, at, message) for at, message in found[:_MOST_SAID]})


def check_grammar(text: str) -> list[GrammarProblem]:
    """The problems of a grammar, as `read_grammar` reports them. An empty one is not checked."""
    return read_grammar(text)[1] if text.strip() else []


def count_rules(text: str) -> int:
    """The number of rules of a valid grammar."""
    return len(parse_grammar(text).rules)


#: The most problems reported for one grammar.
_MOST_SAID = 100


def _problem(text: str, at: int, message: str) -> GrammarProblem:
    before = text[:at].replace("\r\n", "\n").replace("\r", "\n")
    sentence = message if message.endswith(".") else f"{message}."
    return GrammarProblem(before.count("\n") + 1, at - max(text.rfind("\n", 0, at), text.rfind("\r", 0, at)), sentence)
