"""Translates a grammar's tree to llguidance's own language, which resembles Lark's.

Each character of GBNF becomes a lexeme of one character, because llguidance's lexer takes the longest lexeme that
matches and GBNF may end one anywhere: if all lexemes have the same length, both languages mean the same. Groups become
separate rules, so that nothing is nested. It must not know of matchers or processes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from loaders.grammar.free_text import free_text_regex
from loaders.grammar.tree import Alternatives, CharacterSet, Grammar, GrammarItem, TokenReference

#: Code points that are not characters: the surrogates; and NUL, which no engine writes.
_HOLES = ((0, 0), (0xD800, 0xDFFF))
_LAST = 0x10FFFF

#: If only one text can follow, all its tokenizations are allowed, not only the tokenizer's own.
_OPTIONS = '%llguidance {"no_forcing": true}'


#: Allowed whitespace in JSON: one space, or a new line and its indentation. Without a limit, small models write it
#: endlessly.
_JSON = {"whitespace_pattern": " |\\n[ \\t]{0,20}"}


class UnknownToken(Exception):
    """A grammar names a token that is not a single token of the vocabulary."""


@dataclass(frozen=True)
class GrammarTokens:
    """What a grammar must know of a vocabulary.

    `named`: the id of a token by its text; `control`: the control tokens among them, which a text in a grammar may mean
    as well; `ends`: those that end a reply, which no grammar can contain; `never`: an id that is never allowed.
    """

    named: Callable[[str], int | None]
    control: Mapping[str, int]
    ends: frozenset[int]
    never: int


def to_lark(grammar: Grammar, tokens: GrammarTokens) -> str:
    """The same grammar in llguidance's language. Raises: UnknownToken."""
    return _Writer(grammar, tokens).text()


@dataclass
class _Writer:
    grammar: Grammar
    tokens: GrammarTokens
    lines: list[str] = field(default_factory=list)
    sets: dict[CharacterSet, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
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
        for written, name in self.words.items():
            yield f"{name}: {written}"
        for characters, name in self.sets.items():
            if ranges := character_ranges(characters):
                inside = "".join([f"\\x{{{low:X}}}-\\x{{{high:X}}}" for low, high in ranges])
                yield f"{name}: /[{inside}]/"

    def _rule(self, name: str, rule: Alternatives) -> None:
        self.lines.append(f"{name}: " + " | ".join([self._sequence(sequence) for sequence in rule]))

    def _sequence(self, sequence: Sequence[GrammarItem]) -> str:
        return " ".join([self._item(item) for item in sequence if not item.empty]) or '""'

    def _item(self, item: GrammarItem) -> str:
        if item.group is not None:
            once = self._new_rule()
            self._rule(once, item.group)
        elif item.name:
            once = self.names[item.name]
        elif item.token:
            once = self._token(item.token)
        else:
            written = self._schema(item.schema) if item.schema else ""
            once = written or (self._free(item.free) if item.free else self._literal(item.text))
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
        """JSON is matched by llguidance itself. It refuses a schema that it cannot enforce."""
        schema = json.loads(text)
        schema.setdefault("x-guidance", _JSON)
        return f"%json {json.dumps(schema)}"

    def _free(self, text: str) -> str:
        """Text up to its end. If the end begins with a control token's text, it may be that token as well."""
        value = json.loads(text)
        name = self._new_rule()
        ways = [self._terminal(free_text_regex(value, ended=True))]
        end = value["end"]
        if self.control and self.control.match(end):
            before = self._terminal(free_text_regex(value, ended=False))
            after = self._literal(tuple(CharacterSet(((ord(each), ord(each)),)) for each in end))
            ways.append(f"{before} {after}")
        self.lines.append(f"{name}: {' | '.join(ways)}")
        return name

    def _terminal(self, written: str) -> str:
        """The name of a terminal."""
        return self.words.setdefault(written, f"T{len(self.words)}")

    def _literal(self, text: Sequence[CharacterSet]) -> str:
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

    def _letters(self, text: Sequence[CharacterSet]) -> str:
        return " ".join([self._set(characters) for characters in text])

    def _set(self, characters: CharacterSet) -> str:
        if characters not in self.sets:
            # a rule that cannot match must exist all the same: there may be other alternatives
            self.sets[characters] = f"C{len(self.sets)}" if character_ranges(characters) else self._never
        return self.sets[characters]

    @property
    def _never(self) -> str:
        return f"<[{self.tokens.never}]>"

    def _token(self, token: TokenReference) -> str:
        number = self.tokens.named(token.text) if token.id is None else token.id
        if number is None or number >= self.tokens.never:
            what = token.text if token.id is None else f"number {token.id}"
            raise UnknownToken(f"the token {what} is not in this model's vocabulary")
        if token.negated:
            return f"<[^{','.join(map(str, sorted({number, self.tokens.never} | self.tokens.ends)))}]>"
        return self._never if number in self.tokens.ends else f"<[{number}]>"


def character_ranges(characters: CharacterSet) -> list[tuple[int, int]]:
    """The valid characters in a set's ranges, in order, without overlaps and gaps."""
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
