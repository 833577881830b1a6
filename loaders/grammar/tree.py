"""The syntax tree of a GBNF grammar: created by the parser, read by validation and translation.

Data only; it must not know how a grammar is written or matched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True)
class CharacterSet:
    """A set of characters by the code points of its ranges; `negated`: all others."""

    ranges: tuple[tuple[int, int], ...]
    negated: bool = False


#: What `.` matches.
ANY = CharacterSet((), negated=True)


@dataclass(frozen=True)
class TokenReference:
    """A token of the model's vocabulary, by its id or its text; `negated`: any other one."""

    id: int | None
    text: str = ""
    negated: bool = False


@dataclass
class GrammarItem:
    """An item of a sequence and its repetition: a name, a group, a token, characters, the JSON that a schema allows, or
    free text up to its end.

    `at` is its position; `schema` and `free` are a JSON object's text.
    """

    at: int
    name: str = ""
    group: Alternatives | None = None
    token: TokenReference | None = None
    text: tuple[CharacterSet, ...] = ()
    schema: str = ""
    free: str = ""
    low: int = 1
    high: int | None = 1  # None: unlimited
    optional: bool = False  # what it repeats was already optional
    vain: bool = False  # it was already optional when it was repeated without a limit
    size: int = 1  # its size when expanded, for the limit on repetitions

    @property
    def empty(self) -> bool:
        """Whether it matches only the empty text: an empty literal."""
        return not (self.name or self.text or self.token or self.schema or self.free or self.group is not None)

    @property
    def repeated(self) -> bool:
        return (self.low, self.high) != (1, 1)


Alternatives: TypeAlias = list[list[GrammarItem]]


@dataclass
class Grammar:
    """The rules by name (a later one replaces an earlier one of the same name), all rules as written, and the start
    position.
    """

    rules: dict[str, Alternatives] = field(default_factory=dict)
    written: list[Alternatives] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)


def all_items(alternatives: Alternatives) -> Iterator[GrammarItem]:
    """All items, including those in groups."""
    todo = [item for sequence in alternatives for item in sequence]
    while todo:
        item = todo.pop()
        yield item
        todo += [each for sequence in item.group or () for each in sequence]
