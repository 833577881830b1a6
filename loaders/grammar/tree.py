"""A GBNF grammar as a tree: what the parser makes of a text, and what the check and the translation read.

Data alone; it must not know how a grammar is written or followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True)
class Characters:
    """A set of characters by their code points, first and last of each range; `negated`: all others."""

    ranges: tuple[tuple[int, int], ...]
    negated: bool = False


#: What `.` matches.
ANY = Characters((), negated=True)


@dataclass(frozen=True)
class TokenName:
    """A token of the model's vocabulary, by its id or its text; `negated`: any other one."""

    id: int | None
    text: str = ""
    negated: bool = False


@dataclass
class Item:
    """Something in a sequence, and how often: a name, a group, a token, characters, or the JSON that a schema allows.

    `at` is where it stands; `schema` is a JSON object's text.
    """

    at: int
    name: str = ""
    group: Alternatives | None = None
    token: TokenName | None = None
    text: tuple[Characters, ...] = ()
    schema: str = ""
    low: int = 1
    high: int | None = 1  # None: without end
    optional: bool = False  # what it repeats was optional already
    vain: bool = False  # it was optional already when it was repeated without end
    size: int = 1  # what it unfolds to, for the limit on repetitions

    @property
    def empty(self) -> bool:
        """Whether it matches nothing by itself: an empty literal."""
        return not (self.name or self.text or self.token or self.schema or self.group is not None)

    @property
    def repeated(self) -> bool:
        return (self.low, self.high) != (1, 1)


Alternatives: TypeAlias = list[list[Item]]


@dataclass
class Grammar:
    """The rules by name (of two with one name the later one counts), all as they were written, and where they begin."""

    rules: dict[str, Alternatives] = field(default_factory=dict)
    written: list[Alternatives] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)


def items_of(alternatives: Alternatives) -> Iterator[Item]:
    """All items, those within groups too."""
    todo = [item for sequence in alternatives for item in sequence]
    while todo:
        item = todo.pop()
        yield item
        todo += [each for sequence in item.group or () for each in sequence]
