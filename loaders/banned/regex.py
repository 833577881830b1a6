"""Regular expressions as automata, which search in linear time and know whether a match may still follow.

Python's own engine can do neither: an expression from a request could keep it busy for years. Its parser is used, so
the syntax is Python's, without lookaround and references to groups. It must not know what is searched.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from errors import InvalidInput

#: Python's own parser: `re._parser` from 3.11 on.
_parser: Any = getattr(re, "_parser", None)
if _parser is None:  # pragma: no cover
    import sre_parse as _parser

#: Flags that would change what is found.
_REFUSED = re.DOTALL | re.ASCII
_FLAGS_REFUSED = r"the flag s or a (write [\s\S] for any character, and [a-zA-Z0-9_] for \w)"

#: The most nodes of all expressions of one list.
MOST_NODES = 4000

#: What precedes or follows a position: a word's character, a line break (also the beginning and end), anything else.
WORD, LINE, OTHER = "word", "line", "other"


def class_of(char: str) -> str:
    r"""The class of a character, for `\b`, `^` and `$`."""
    if char.isalnum() or char == "_":
        return WORD
    return LINE if char == "\n" else OTHER


@dataclass(slots=True)
class Node:
    """A state of the automaton. It consumes a character that it `takes`, or leads on without one if it `passes`.

    `passes` gets the classes before and after; that after is None if it is not known yet. `cost`: how many comparisons
    `takes` needs.
    """

    takes: Callable[[str], bool] | None = None
    passes: Callable[[str, str | None], bool] | None = None
    next: tuple[int, ...] = ()
    accepts: bool = False
    cost: int = 1


class RegexAutomaton:
    """All expressions of a list. `starts` are the nodes to start from."""

    def __init__(self, ignore_case: bool) -> None:
        self.nodes: list[Node] = []
        self.starts: list[int] = []
        self.looks_ahead = False  # whether any node must know what follows or precedes
        self._ignore_case = ignore_case

    def add(self, expression: str) -> None:
        """Raises: InvalidInput, if it is invalid, too large, or matches the empty string."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                parsed = _parser.parse(expression, 0)
        except (re.error, OverflowError, RecursionError) as error:
            raise InvalidInput(f"banned_strings: /{expression[:80]}/ is not a regular expression: {error}.") from None
        if bool(parsed.state.flags & re.VERBOSE):
            raise _unsupported(expression, "the flag x")
        if parsed.state.flags & _REFUSED:
            raise _unsupported(expression, _FLAGS_REFUSED)
        end = self._node(Node(accepts=True))
        try:
            start = self._sequence(list(parsed), end, self._ignore_case or bool(parsed.state.flags & re.IGNORECASE))
        except _Unsupported as error:
            raise _unsupported(expression, str(error)) from None
        if end in self.closure([start], lambda _: True):
            raise InvalidInput(f"banned_strings: /{expression[:80]}/ matches an empty text, which cannot be avoided.")
        self.starts.append(start)

    def closure(self, nodes: Iterable[int], passes: Callable[[Node], bool]) -> set[int]:
        """All nodes that can be reached without a character."""
        found: set[int] = set()
        left = list(nodes)
        while left:
            at = left.pop()
            if at in found:
                continue
            found.add(at)
            node = self.nodes[at]
            if node.takes is None and not node.accepts and (node.passes is None or passes(node)):
                left += node.next
        return found

    # --- building: each method returns the node to start from, given the node that follows ---

    def _node(self, node: Node) -> int:
        if len(self.nodes) >= MOST_NODES:
            raise InvalidInput(
                f"banned_strings: the regular expressions are too large (more than {MOST_NODES:,} places in all). "
                "Use smaller numbers of repetitions."
            )
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _sequence(self, parts: list[Any], after: int, fold: bool) -> int:
        for part in reversed(parts):
            after = self._part(part, after, fold)
        return after

    def _part(self, part: Any, after: int, fold: bool) -> int:
        name, value = str(part[0]), part[1]
        if name in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            cost = len(value) if name == "IN" else 1
            return self._node(Node(takes=_taker(name, value, fold), next=(after,), cost=cost))
        if name == "BRANCH":
            starts = [self._sequence(list(each), after, fold) for each in value[1]]
            return self._node(Node(next=tuple(dict.fromkeys(starts))))  # empty ones are the same node
        if name == "SUBPATTERN":
            if value[1] & _REFUSED:
                raise _Unsupported(_FLAGS_REFUSED)
            fold = (fold or bool(value[1] & re.IGNORECASE)) and not value[2] & re.IGNORECASE
            return self._sequence(list(value[3]), after, fold)
        if name == "ATOMIC_GROUP":
            return self._sequence(list(value), after, fold)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            return self._repeat(value[0], value[1], list(value[2]), after, fold)
        if name == "AT":
            if str(value) in ("AT_BEGINNING_STRING", "AT_END_STRING"):
                raise _Unsupported(r"\A or \Z (^ and $ are the beginning and the end of a line)")
            self.looks_ahead = True
            return self._node(Node(passes=_assertion(str(value)), next=(after,)))
        raise _Unsupported({"GROUPREF": "a reference to a group"}.get(name, "lookaround"))

    def _repeat(self, least: int, most: Any, parts: list[Any], after: int, fold: bool) -> int:
        if most is _parser.MAXREPEAT:
            loop = self._node(Node())
            self.nodes[loop].next = (self._sequence(parts, loop, fold), after)
            after = loop
        else:
            if int(most) > MOST_NODES:
                raise _Unsupported("so many repetitions")
            end = after
            for _ in range(int(most) - least):
                after = self._node(Node(next=(self._sequence(parts, after, fold), end)))
        if least > MOST_NODES:
            raise _Unsupported("so many repetitions")
        for _ in range(least):
            before, after = after, self._sequence(parts, after, fold)
            if after == before:  # it consists of nothing, so more of it changes nothing
                break
        return after


class _Unsupported(Exception):
    """What an expression contains that this automaton cannot do."""


def _unsupported(expression: str, what: str) -> InvalidInput:
    return InvalidInput(f"banned_strings: /{expression[:80]}/ contains {what}, which is not supported here.")


def _taker(name: str, value: Any, fold: bool) -> Callable[[str], bool]:
    """Whether a character is one of those that a part of an expression matches."""
    if name == "ANY":
        return lambda char: char != "\n"
    if name == "LITERAL":
        test = _one_of([("LITERAL", value)])
    elif name == "NOT_LITERAL":
        test = _one_of([("NEGATE", None), ("LITERAL", value)])
    else:
        test = _one_of([(str(kind), each) for kind, each in value])
    if not fold:
        return test
    if name == "NOT_LITERAL" or (name == "IN" and str(value[0][0]) == "NEGATE"):
        return lambda char: all(test(each) for each in _cases(char))
    return lambda char: any(test(each) for each in _cases(char))


def _cases(char: str) -> set[str]:
    return {char, *(each for each in (char.lower(), char.upper()) if len(each) == 1)}


def _one_of(items: list[tuple[str, Any]]) -> Callable[[str], bool]:
    negated = items[0][0] == "NEGATE"
    tests = [_test(kind, value) for kind, value in items[negated:]]
    return lambda char: any(test(char) for test in tests) is not negated


def _test(kind: str, value: Any) -> Callable[[str], bool]:
    if kind == "LITERAL":
        return lambda char: ord(char) == value
    if kind == "RANGE":
        low, high = value
        return lambda char: low <= ord(char) <= high
    category = str(value).removeprefix("CATEGORY_")
    plain: dict[str, Callable[[str], bool]] = {
        "DIGIT": str.isdecimal,
        "SPACE": str.isspace,
        "WORD": lambda char: class_of(char) == WORD,
    }
    test = plain[category.removeprefix("NOT_")]
    return (lambda char: not test(char)) if category.startswith("NOT_") else test


def _assertion(name: str) -> Callable[[str, str | None], bool]:
    """`^` and `$` are the beginning and the end of a line."""
    if name.startswith("AT_BEGINNING"):
        return lambda before, _: before == LINE
    if name.startswith("AT_END"):
        return lambda _, after: after == LINE
    same = name == "AT_NON_BOUNDARY"
    return lambda before, after: after is not None and ((before == WORD) == (after == WORD)) is same
