"""Parses a GBNF text to a tree. The language is llama.cpp's (its grammars/README.md), with two additions: `%json {...}`
stands for the JSON that a JSON schema allows, as in llguidance's grammars; `%text {"end": "</a>"}` for any text up to
its end, see `free_text`.

Texts are limited: length, rules and groups, items, nesting of parentheses, and the expansion of repetitions. A token
written as text, such as `<think>`, is accepted as it is: whether it is a token of the vocabulary is only known when the
grammar is used.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from loaders import safe_json
from loaders.grammar.free_text import free_text_problem
from loaders.grammar.tree import ANY, Alternatives, CharacterSet, Grammar, GrammarItem, TokenReference

_ESCAPES = {"x": 2, "u": 4, "U": 8, **dict.fromkeys('trn\\"[]-', 0)}
_LETTERS = {"t": 9, "r": 13, "n": 10}
_DIGITS = frozenset("0123456789")
_NAME = re.compile(r"[a-zA-Z0-9-]*")
_BLANKS = re.compile(r"(?:[ \t]+|#[^\r\n]*)*")
_BLANKS_AND_LINES = re.compile(r"(?:[ \t\r\n]+|#[^\r\n]*)*")
_SCHEMA = re.compile(r"%(json|text)\s*\{")
_PLAIN = re.compile(r'[^"\\\0]*')

_LONGEST = 500_000  # characters
_MOST_RULES = 20_000  # rules and groups
_MOST_ITEMS = 100_000
_MOST_REPEATS = 2000  # llama.cpp's limit for one repetition
_DEEPEST = 200  # levels of parentheses; its parser is recursive


class GrammarSyntaxError(Exception):
    """Where and why a text is not a valid grammar."""

    def __init__(self, at: int, message: str) -> None:
        super().__init__(message)
        self.at = at


def parse_grammar(text: str) -> Grammar:
    """The tree. Raises: GrammarSyntaxError."""
    if len(text) > _LONGEST:
        raise GrammarSyntaxError(_LONGEST, f"the grammar has {len(text):,} characters; the limit is {_LONGEST:,}")
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
        name = self._name("expected a rule name of letters, digits and dashes")
        self._space(newlines=False)
        if not self.text.startswith("::=", self.at):
            raise GrammarSyntaxError(self.at, f"expected ::= after the name {name}")
        self.at += 3
        self._space(newlines=True)
        self._count_rule(start)
        self.found.rules[name] = self._alternatives(0)
        self.found.written.append(self.found.rules[name])
        self.found.places[name] = start
        if self.at < len(self.text) and self._next not in "\r\n":
            what = "unmatched )" if self._next == ")" else f"unexpected {self._next!r}"
            raise GrammarSyntaxError(self.at, f"{what} in the rule {name}")
        self._space(newlines=True)

    def _count_rule(self, at: int) -> None:
        self.rules += 1
        if self.rules > _MOST_RULES:
            raise GrammarSyntaxError(at, f"too many rules and groups; the limit is {_MOST_RULES:,}")

    def _count_items(self, at: int, count: int) -> None:
        self.items += count
        if self.items > _MOST_ITEMS:
            raise GrammarSyntaxError(at, f"too many names, characters and ranges; the limit is {_MOST_ITEMS:,}")

    def _alternatives(self, depth: int) -> Alternatives:
        if depth > _DEEPEST:
            raise GrammarSyntaxError(self.at, f"parentheses are nested too deeply; the limit is {_DEEPEST}")
        found = [self._sequence(depth)]
        while self._next == "|":
            self.at += 1
            self._space(newlines=True)
            found.append(self._sequence(depth))
        return found

    def _sequence(self, depth: int) -> list[GrammarItem]:
        items: list[GrammarItem] = []
        while character := self._next:
            start = self.at
            if character == '"':
                items.append(self._literal())
            elif character == "[":
                items.append(self._characters())
            elif character == ".":
                self.at += 1
                items.append(GrammarItem(start, text=(ANY,)))
            elif character in "<!":
                items.append(self._token())
            elif character in "*+?{":
                self._repeat(items, newlines=depth > 0)
            elif character == "(":
                items.append(self._group(depth))
            elif character == "%":
                items.append(self._schema())
            elif name := self._word():
                items.append(GrammarItem(start, name=name))
            else:
                break
            self._count_items(start, 1 + (len(items[-1].text) if character == '"' else 0))
            self._space(newlines=depth > 0)
        return items

    def _group(self, depth: int) -> GrammarItem:
        start = self.at
        self._count_rule(start)
        self.at += 1
        self._space(newlines=True)
        inner = self._alternatives(depth + 1)
        if self._next != ")":
            raise GrammarSyntaxError(start, "this ( is not closed")
        self.at += 1
        size = 1 + sum(each.size for line in inner for each in line if each.group is not None or each.low == 0)
        return GrammarItem(start, group=inner, size=size)

    # --- characters ---

    def _literal(self) -> GrammarItem:
        start = self.at
        self.at += 1
        codes: list[int] = []
        while self._next != '"':
            plain = _PLAIN.match(self.text, self.at)
            assert plain
            codes += map(ord, plain[0])
            self.at = plain.end()
            if self._next != '"':
                codes.append(self._character(start, 'this " is not closed'))
        self.at += 1
        return GrammarItem(start, text=tuple(CharacterSet(((code, code),)) for code in codes))

    def _characters(self) -> GrammarItem:
        start = self.at
        negated = self.text.startswith("[^", self.at)
        self.at += 2 if negated else 1
        ranges: list[tuple[int, int]] = []
        while self._next != "]":
            low = high = self._character(start, "this [ is not closed")
            if self._next == "-" and not self.text.startswith("-]", self.at):
                self.at += 1
                high = self._character(start, "this [ is not closed")
            ranges.append((low, high))
            self._count_items(start, 1)
        self.at += 1
        if not ranges:  # llama.cpp: [] matches nothing, and so does [^]
            return GrammarItem(start)
        return GrammarItem(start, text=(CharacterSet(tuple(ranges), negated),))

    def _character(self, start: int, unclosed: str) -> int:
        if not self._next or self._next == "\0":
            raise GrammarSyntaxError(start, unclosed)
        if self._next != "\\":
            self.at += 1
            return ord(self.text[self.at - 1])
        escape = self.text[self.at + 1 : self.at + 2]
        if escape not in _ESCAPES:
            raise GrammarSyntaxError(self.at, f"unknown escape \\{escape or ' at the end'}")
        digits = self.text[self.at + 2 : self.at + 2 + _ESCAPES[escape]]
        if len(digits) < _ESCAPES[escape] or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            raise GrammarSyntaxError(self.at, f"\\{escape} requires {_ESCAPES[escape]} hexadecimal digits")
        self.at += 2 + len(digits)
        return int(digits, 16) if digits else _LETTERS.get(escape, ord(escape))

    def _token(self) -> GrammarItem:
        start = self.at
        negated = self._next == "!"
        self.at += negated
        if self._next != "<":
            raise GrammarSyntaxError(start, "expected a token such as <[123]> after !")
        if self.text.startswith("<[", self.at):
            self.at += 2
            number = self._number("a token id")
            if not self.text.startswith("]>", self.at):
                raise GrammarSyntaxError(start, "expected a token id in the form <[123]>")
            self.at += 2
            return GrammarItem(start, token=TokenReference(number, negated=negated))
        end = self.text.find(">", self.at)
        if end < 0:
            raise GrammarSyntaxError(start, "this < is not closed")
        name = self.text[self.at : end + 1]
        self.at = end + 1
        return GrammarItem(start, token=TokenReference(None, name, negated))

    def _schema(self) -> GrammarItem:
        start = self.at
        brace = _SCHEMA.match(self.text, start)
        if not brace:
            raise GrammarSyntaxError(
                start, "expected json and a JSON schema (an object) after %: %json {...} (or text: %text {...})"
            )
        what = "schema" if brace[1] == "json" else "object"
        try:
            value, self.at = safe_json.decode_first(self.text, brace.end() - 1)
        except json.JSONDecodeError as error:
            raise GrammarSyntaxError(
                error.pos, f"the {what} after %{brace[1]} is not valid JSON ({error.msg})"
            ) from None
        except ValueError as error:
            raise GrammarSyntaxError(start, f"the {what} after %{brace[1]} cannot be read: {error}") from None
        if brace[1] == "json":
            return GrammarItem(start, schema=json.dumps(value))
        if why := free_text_problem(value):
            raise GrammarSyntaxError(start, why)
        return GrammarItem(start, free=json.dumps(value))

    # --- repetition ---

    def _repeat(self, items: list[GrammarItem], *, newlines: bool) -> None:
        start, sign = self.at, self._next
        self.at += 1
        low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(sign) or self._bounds(start, newlines)
        if not items or items[-1].empty:
            raise GrammarSyntaxError(start, f"nothing to repeat before {sign}")
        item = items[-1]
        size = item.size * ((high or low) or 1)
        if low > _MOST_REPEATS or size > _MOST_REPEATS:
            raise GrammarSyntaxError(
                start, f"too many repetitions: a repetition may expand to at most {_MOST_REPEATS:,} items"
            )
        optional = item.optional or item.low == 0
        vain = item.vain or (high is None and optional)
        if high == 0:
            items[-1] = GrammarItem(start)
            return
        if item.repeated:
            self._count_rule(start)
            item = GrammarItem(item.at, group=[[item]])
        item.low, item.high, item.size, item.optional, item.vain = low, high, size, optional, vain
        items[-1] = item

    def _bounds(self, start: int, newlines: bool) -> tuple[int, int | None]:
        self._space(newlines=newlines)
        low = self._number("a number of repetitions")
        self._space(newlines=newlines)
        high: int | None = low
        if self._next == ",":
            self.at += 1
            self._space(newlines=newlines)
            high = self._number("") if self._next in _DIGITS and self._next else None
            self._space(newlines=newlines)
        if self._next != "}":
            raise GrammarSyntaxError(start, "expected repetitions in the form {2}, {2,} or {2,5}")
        self.at += 1
        if high is not None and high < low:
            raise GrammarSyntaxError(start, f"{high} is less than {low}")
        return low, None if high is not None and high > _MOST_REPEATS else high

    # --- characters of the text ---

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
            raise GrammarSyntaxError(start, f"{wanted}, got {self._next!r}" if self._next else wanted)
        return name

    def _number(self, what: str) -> int:
        start = self.at
        while self._next and self._next in _DIGITS:
            self.at += 1
        if start == self.at or self.at - start > 9:
            raise GrammarSyntaxError(start, f"expected {what} (an integer)")
        return int(self.text[start : self.at])

    def _space(self, *, newlines: bool) -> None:
        match = (_BLANKS_AND_LINES if newlines else _BLANKS).match(self.text, self.at)
        assert match
        self.at = match.end()
