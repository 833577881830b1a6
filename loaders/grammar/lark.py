"""A grammar's tree in llguidance's own language, which is like Lark's.

Each character of GBNF becomes a lexeme of one character, for its lexer takes the longest lexeme that matches and GBNF
may end one anywhere: where all lexemes are as long as each other, the two languages mean the same. Groups become rules
of their own, so that nothing is nested. It must not know of matchers or processes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from loaders.grammar.tree import Alternatives, Characters, Grammar, Item, TokenName

#: Code points that are no characters: the surrogates; and NUL, which no engine writes.
_HOLES = ((0, 0), (0xD800, 0xDFFF))
_LAST = 0x10FFFF

#: Where only one text can follow, each way to write it in tokens is allowed, not only the tokenizer's.
_OPTIONS = '%llguidance {"no_forcing": true}'


#: Where JSON may have blanks: one, or a new line and its indent. Without a bound small models write no end of them.
_JSON = {"whitespace_pattern": " |\\n[ \\t]{0,20}"}


class NoSuchToken(Exception):
    """A grammar names a token that is not one token of the vocabulary."""


@dataclass(frozen=True)
class Tokens:
    """What a grammar has to know of a vocabulary.

    `named`: the id of a token by its text; `control`: the control tokens among them, which a text of a grammar may
    mean as well; `ends`: those that end a reply, which no grammar can contain; `never`: an id that is never offered.
    """

    named: Callable[[str], int | None]
    control: Mapping[str, int]
    ends: frozenset[int]
    never: int


def translate(grammar: Grammar, tokens: Tokens) -> str:
    """The same grammar in llguidance's language. Raises: NoSuchToken."""
    return _Writer(grammar, tokens).text()


@dataclass
class _Writer:
    grammar: Grammar
    tokens: Tokens
    lines: list[str] = field(default_factory=list)
    sets: dict[Characters, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        self.names = {name: f"r{place}" for place, name in enumerate(self.grammar.rules)}
        control = sorted((each for each in self.tokens.control if each), key=len, reverse=True)
        self.control = re.compile("|".join(map(re.escape, control))) if control else None

    def text(self) -> str:
        for name, rule in self.grammar.rules.items():
            self._rule(self.names[name], rule)
        return "\n".join([_OPTIONS, f"start: {self.names['root']}", *self.lines, *self._terminals()]) + "\n"

    def _terminals(self) -> Iterable[str]:
        for characters, name in self.sets.items():
            if ranges := visible(characters):
                inside = "".join([f"\\x{{{low:X}}}-\\x{{{high:X}}}" for low, high in ranges])
                yield f"{name}: /[{inside}]/"

    def _rule(self, name: str, rule: Alternatives) -> None:
        self.lines.append(f"{name}: " + " | ".join([self._sequence(sequence) for sequence in rule]))

    def _sequence(self, sequence: Sequence[Item]) -> str:
        return " ".join([self._item(item) for item in sequence if not item.empty]) or '""'

    def _item(self, item: Item) -> str:
        if item.group is not None:
            once = self._new_rule()
            self._rule(once, item.group)
        elif item.name:
            once = self.names[item.name]
        elif item.token:
            once = self._token(item.token)
        else:
            once = self._schema(item.schema) if item.schema else self._literal(item.text)
            if item.repeated and " " in once:
                name = self._new_rule()
                self.lines.append(f"{name}: {once}")
                once = name
        if not item.repeated:
            return once
        if item.high is None and item.low < 2:
            return f"{once}{'+' if item.low else '*'}"
        if (item.low, item.high) == (0, 1):
            return f"{once}?"
        return f"{once}{{{item.low},{'' if item.high is None else item.high}}}"

    def _new_rule(self) -> str:
        self.count += 1
        return f"g{self.count}"

    def _schema(self, text: str) -> str:
        """JSON is followed by llguidance itself. It refuses a schema that it cannot keep to."""
        schema = json.loads(text)
        schema.setdefault("x-guidance", _JSON)
        return f"%json {json.dumps(schema)}"

    def _literal(self, text: Sequence[Characters]) -> str:
        """A text; a control token's own text may also be that token."""
        if len(text) < 2 or not self.control:
            return self._letters(text)
        letters = "".join([chr(each.ranges[0][0]) for each in text])
        parts, at = [], 0
        for match in self.control.finditer(letters):
            name = self._new_rule()
            token = self.tokens.control[match[0]]
            self.lines.append(f"{name}: <[{token}]> | {self._letters(text[match.start() : match.end()])}")
            parts += [self._letters(text[at : match.start()]), name]
            at = match.end()
        return " ".join([part for part in [*parts, self._letters(text[at:])] if part])

    def _letters(self, text: Sequence[Characters]) -> str:
        return " ".join([self._set(characters) for characters in text])

    def _set(self, characters: Characters) -> str:
        if characters not in self.sets:
            # what no text can match must stand all the same: there may be other alternatives
            self.sets[characters] = f"C{len(self.sets)}" if visible(characters) else self._never
        return self.sets[characters]

    @property
    def _never(self) -> str:
        return f"<[{self.tokens.never}]>"

    def _token(self, token: TokenName) -> str:
        number = self.tokens.named(token.text) if token.id is None else token.id
        if number is None or number >= self.tokens.never:
            what = token.text if token.id is None else f"number {token.id}"
            raise NoSuchToken(f"the token {what} is none of this model's vocabulary")
        if token.negated:
            return f"<[^{','.join(map(str, sorted({number, self.tokens.never} | self.tokens.ends)))}]>"
        return self._never if number in self.tokens.ends else f"<[{number}]>"


def visible(characters: Characters) -> list[tuple[int, int]]:
    """The ranges of a set that are characters, in order, without overlaps and holes."""
    ranges = sorted((low, min(high, _LAST)) for low, high in characters.ranges if low <= min(high, _LAST))
    merged: list[tuple[int, int]] = []
    for low, high in ranges:
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    if characters.negated:
        edges = [-1, *(edge for each in merged for edge in each), _LAST + 1]
        merged = [(low + 1, high - 1) for low, high in zip(edges[::2], edges[1::2], strict=True) if high - low > 1]
    for hole_low, hole_high in _HOLES:
        parts = [((low, min(high, hole_low - 1)), (max(low, hole_high + 1), high)) for low, high in merged]
        merged = [part for both in parts for part in both if part[0] <= part[1]]
    return merged
