"""A GBNF text to its tree. The language is llama.cpp's (its grammars/README.md), and one thing more: `%json {...}`
stands for the JSON that a JSON schema allows, as in llguidance's grammars.

What a text may take is bounded here: its length, its rules and groups, its items, how deep parentheses go, what a
repetition unfolds to. A token written by its text, such as `<think>`, is taken as it stands: whether it is one token
of a vocabulary only who follows the grammar can tell.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from loaders import plain_json
from loaders.grammar.tree import ANY, Alternatives, Characters, Grammar, Item, TokenName

_ESCAPES = {"x": 2, "u": 4, "U": 8, **dict.fromkeys('trn\\"[]-', 0)}
_LETTERS = {"t": 9, "r": 13, "n": 10}
_DIGITS = frozenset("0123456789")
_NAME = re.compile(r"[a-zA-Z0-9-]*")
_BLANKS = re.compile(r"(?:[ \t]+|#[^\r\n]*)*")
_BLANKS_AND_LINES = re.compile(r"(?:[ \t\r\n]+|#[^\r\n]*)*")
_SCHEMA = re.compile(r"%json\s*\{")
_PLAIN = re.compile(r'[^"\\\0]*')

_LONGEST = 500_000  # characters
_MOST_RULES = 20_000  # rules and groups
_MOST_ITEMS = 100_000
_MOST_REPEATS = 2000  # what llama.cpp lets one repetition unfold to
_DEEPEST = 200  # parentheses; its parser calls itself for each


class Mistake(Exception):
    """Where a text is no grammar, and why."""

    def __init__(self, at: int, message: str) -> None:
        super().__init__(message)
        self.at = at


def parse(text: str) -> Grammar:
    """The tree. Raises: Mistake."""
    if len(text) > _LONGEST:
        raise Mistake(_LONGEST, f"a grammar may have {_LONGEST:,} characters, and this one has {len(text):,}")
    return _Parser(text).grammar()


@dataclass
class _Parser:
    text: str
    at: int = 0
    found: Grammar = field(default_factory=Grammar)
    rules: int = 0
    items: int = 0

    def grammar(self) -> Grammar:
        self._space(newlines=True)
        while self.at < len(self.text):
            self._rule()
        return self.found

    # --- rules ---

    def _rule(self) -> None:
        start = self.at
        name = self._name("A rule begins with its name, of letters, digits and dashes")
        self._space(newlines=False)
        if not self.text.startswith("::=", self.at):
            raise Mistake(self.at, f"after the name {name} comes ::=")
        self.at += 3
        self._space(newlines=True)
        self._count_rule(start)
        self.found.rules[name] = self._alternatives(0)
        self.found.written.append(self.found.rules[name])
        self.found.places[name] = start
        if self.at < len(self.text) and self._next not in "\r\n":
            what = "this ) closes nothing" if self._next == ")" else f"{self._next!r} cannot stand here"
            raise Mistake(self.at, f"{what} in the rule {name}")
        self._space(newlines=True)

    def _count_rule(self, at: int) -> None:
        self.rules += 1
        if self.rules > _MOST_RULES:
            raise Mistake(at, f"a grammar may have {_MOST_RULES:,} rules and groups")

    def _count_items(self, at: int, count: int) -> None:
        self.items += count
        if self.items > _MOST_ITEMS:
            raise Mistake(at, f"a grammar may have {_MOST_ITEMS:,} names, characters and ranges")

    def _alternatives(self, depth: int) -> Alternatives:
        if depth > _DEEPEST:
            raise Mistake(self.at, f"parentheses are nested deeper than {_DEEPEST}")
        found = [self._sequence(depth)]
        while self._next == "|":
            self.at += 1
            self._space(newlines=True)
            found.append(self._sequence(depth))
        return found

    def _sequence(self, depth: int) -> list[Item]:
        items: list[Item] = []
        while character := self._next:
            start = self.at
            if character == '"':
                items.append(self._literal())
            elif character == "[":
                items.append(self._characters())
            elif character == ".":
                self.at += 1
                items.append(Item(start, text=(ANY,)))
            elif character in "<!":
                items.append(self._token())
            elif character in "*+?{":
                self._repeat(items, newlines=depth > 0)
            elif character == "(":
                items.append(self._group(depth))
            elif character == "%":
                items.append(self._schema())
            elif name := self._word():
                items.append(Item(start, name=name))
            else:
                break
            self._count_items(start, 1 + (len(items[-1].text) if character == '"' else 0))
            self._space(newlines=depth > 0)
        return items

    def _group(self, depth: int) -> Item:
        start = self.at
        self._count_rule(start)
        self.at += 1
        self._space(newlines=True)
        inner = self._alternatives(depth + 1)
        if self._next != ")":
            raise Mistake(start, "this ( is never closed")
        self.at += 1
        size = 1 + sum(each.size for line in inner for each in line if each.group is not None or each.low == 0)
        return Item(start, group=inner, size=size)

    # --- characters ---

    def _literal(self) -> Item:
        start = self.at
        self.at += 1
        codes: list[int] = []
        while self._next != '"':
            plain = _PLAIN.match(self.text, self.at)
            assert plain
            codes += map(ord, plain[0])
            self.at = plain.end()
            if self._next != '"':
                codes.append(self._character(start, 'this " is never closed'))
        self.at += 1
        return Item(start, text=tuple(Characters(((code, code),)) for code in codes))

    def _characters(self) -> Item:
        start = self.at
        negated = self.text.startswith("[^", self.at)
        self.at += 2 if negated else 1
        ranges: list[tuple[int, int]] = []
        while self._next != "]":
            low = high = self._character(start, "this [ is never closed")
            if self._next == "-" and not self.text.startswith("-]", self.at):
                self.at += 1
                high = self._character(start, "this [ is never closed")
            ranges.append((low, high))
            self._count_items(start, 1)
        self.at += 1
        if not ranges:  # llama.cpp: [] is nothing, and [^] too
            return Item(start)
        return Item(start, text=(Characters(tuple(ranges), negated),))

    def _character(self, start: int, unclosed: str) -> int:
        if not self._next or self._next == "\0":
            raise Mistake(start, unclosed)
        if self._next != "\\":
            self.at += 1
            return ord(self.text[self.at - 1])
        escape = self.text[self.at + 1 : self.at + 2]
        if escape not in _ESCAPES:
            raise Mistake(self.at, f"there is no escape \\{escape or ' at the end'}")
        digits = self.text[self.at + 2 : self.at + 2 + _ESCAPES[escape]]
        if len(digits) < _ESCAPES[escape] or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            raise Mistake(self.at, f"\\{escape} needs {_ESCAPES[escape]} hexadecimal digits")
        self.at += 2 + len(digits)
        return int(digits, 16) if digits else _LETTERS.get(escape, ord(escape))

    def _token(self) -> Item:
        start = self.at
        negated = self._next == "!"
        self.at += negated
        if self._next != "<":
            raise Mistake(start, "after ! comes a token, such as <[123]>")
        if self.text.startswith("<[", self.at):
            self.at += 2
            number = self._number("the id of a token")
            if not self.text.startswith("]>", self.at):
                raise Mistake(start, "a token by its id is written <[123]>")
            self.at += 2
            return Item(start, token=TokenName(number, negated=negated))
        end = self.text.find(">", self.at)
        if end < 0:
            raise Mistake(start, "this < is never closed")
        name = self.text[self.at : end + 1]
        self.at = end + 1
        return Item(start, token=TokenName(None, name, negated))

    def _schema(self) -> Item:
        start = self.at
        brace = _SCHEMA.match(self.text, start)
        if not brace:
            raise Mistake(start, "after % comes json and a JSON schema, an object: %json {...}")
        try:
            schema, self.at = plain_json.first(self.text, brace.end() - 1)
        except json.JSONDecodeError as error:
            raise Mistake(error.pos, f"the schema after %json is not JSON ({error.msg})") from None
        except ValueError as error:
            raise Mistake(start, f"the schema after %json cannot be read: {error}") from None
        return Item(start, schema=json.dumps(schema))

    # --- repetition ---

    def _repeat(self, items: list[Item], *, newlines: bool) -> None:
        start, sign = self.at, self._next
        self.at += 1
        low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(sign) or self._bounds(start, newlines)
        if not items or items[-1].empty:
            raise Mistake(start, f"there is nothing before {sign} to repeat")
        item = items[-1]
        size = item.size * ((high or low) or 1)
        if low > _MOST_REPEATS or size > _MOST_REPEATS:
            raise Mistake(start, f"this repeats too often: a repetition may unfold to {_MOST_REPEATS:,} items")
        optional = item.optional or item.low == 0
        vain = item.vain or (high is None and optional)
        if high == 0:
            items[-1] = Item(start)
            return
        if item.repeated:
            self._count_rule(start)
            item = Item(item.at, group=[[item]])
        item.low, item.high, item.size, item.optional, item.vain = low, high, size, optional, vain
        items[-1] = item

    def _bounds(self, start: int, newlines: bool) -> tuple[int, int | None]:
        self._space(newlines=newlines)
        low = self._number("the number of repetitions")
        self._space(newlines=newlines)
        high: int | None = low
        if self._next == ",":
            self.at += 1
            self._space(newlines=newlines)
            high = self._number("") if self._next in _DIGITS and self._next else None
            self._space(newlines=newlines)
        if self._next != "}":
            raise Mistake(start, "repetitions are written {2}, {2,} or {2,5}")
        self.at += 1
        if high is not None and high < low:
            raise Mistake(start, f"{high} is less than {low}")
        return low, None if high is not None and high > _MOST_REPEATS else high

    # --- letters ---

    @property
    def _next(self) -> str:
        return self.text[self.at : self.at + 1]

    def _word(self) -> str:
        match = _NAME.match(self.text, self.at)
        assert match
        self.at = match.end()
        return match[0]

    def _name(self, wanted: str) -> str:
        start = self.at
        name = self._word()
        if not name:
            raise Mistake(start, f"{wanted}, not with {self._next!r}" if self._next else wanted)
        return name

    def _number(self, what: str) -> int:
        start = self.at
        while self._next and self._next in _DIGITS:
            self.at += 1
        if start == self.at or self.at - start > 9:
            raise Mistake(start, f"here {what} is expected, a whole number")
        return int(self.text[start : self.at])

    def _space(self, *, newlines: bool) -> None:
        match = (_BLANKS_AND_LINES if newlines else _BLANKS).match(self.text, self.at)
        assert match
        self.at = match.end()
