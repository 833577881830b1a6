"""Is a GBNF grammar sound, and if not, where: every problem with its line, before any engine sees the text.

The language is llama.cpp's (its grammars/README.md). An engine's own parser says that a grammar is refused, but not to
us where. Pure: text in, problems out; it knows no model. A token written by its text, such as `<think>`, is taken as
it stands: whether it is one token of a vocabulary only the engine can tell.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_ESCAPES = {"x": 2, "u": 4, "U": 8, **dict.fromkeys('trn\\"[]-', 0)}
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")
_DIGITS = frozenset("0123456789")
_MOST_REPEATS = 2000  # what llama.cpp lets one repetition unfold to
_DEEPEST = 200  # parentheses; its parser calls itself for each


@dataclass(frozen=True, order=True)
class Problem:
    """What is wrong and where; lines and columns count from 1."""

    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"Line {self.line}, column {self.column}: {self.message}"


@dataclass
class _Item:
    """Something in a sequence: a rule's name, a group, or characters (neither). `at` is where it stands."""

    at: int
    name: str = ""
    group: list[list[_Item]] | None = None
    empty: bool = False  # it matches nothing by itself: an empty literal
    optional: bool = False
    endless: bool = False
    vain: bool = False  # it was optional already when it was repeated without end
    size: int = 1  # what it unfolds to, for the limit on repetitions


class _Stop(Exception):
    def __init__(self, at: int, message: str) -> None:
        super().__init__(message)
        self.at = at


@dataclass
class _Parser:
    text: str
    at: int = 0
    rules: dict[str, list[list[_Item]]] = field(default_factory=dict)  # of two with one name the later one counts
    written: list[list[list[_Item]]] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    # --- rules ---

    def rule(self) -> None:
        start = self.at
        name = self._name("A rule begins with its name, of letters, digits and dashes")
        self._space(newlines=False)
        if not self.text.startswith("::=", self.at):
            raise _Stop(self.at, f"after the name {name} comes ::=")
        self.at += 3
        self._space(newlines=True)
        self.rules[name] = self._alternatives(0)
        self.written.append(self.rules[name])
        self.places[name] = start
        if self.at < len(self.text) and self._next not in "\r\n":
            what = "this ) closes nothing" if self._next == ")" else f"{self._next!r} cannot stand here"
            raise _Stop(self.at, f"{what} in the rule {name}")
        self._space(newlines=True)

    def _alternatives(self, depth: int) -> list[list[_Item]]:
        if depth > _DEEPEST:
            raise _Stop(self.at, f"parentheses are nested deeper than {_DEEPEST}")
        found = [self._sequence(depth)]
        while self._next == "|":
            self.at += 1
            self._space(newlines=True)
            found.append(self._sequence(depth))
        return found

    def _sequence(self, depth: int) -> list[_Item]:
        items: list[_Item] = []
        while self._next:
            start, character = self.at, self._next
            if character == '"':
                items.append(self._literal())
            elif character == "[":
                items.append(self._characters())
            elif character == ".":
                self.at += 1
                items.append(_Item(start))
            elif character in "<!":
                items.append(self._token())
            elif character in _WORD:
                items.append(_Item(start, name=self._name("")))
            elif character == "(":
                items.append(self._group(depth))
            elif character in "*+?{":
                self._repeat(items, newlines=depth > 0)
            else:
                break
            self._space(newlines=depth > 0)
        return items

    def _group(self, depth: int) -> _Item:
        start = self.at
        self.at += 1
        self._space(newlines=True)
        inner = self._alternatives(depth + 1)
        if self._next != ")":
            raise _Stop(start, "this ( is never closed")
        self.at += 1
        size = 1 + sum(item.size for sequence in inner for item in sequence if item.group or item.optional)
        return _Item(start, group=inner, size=size)

    # --- characters ---

    def _literal(self) -> _Item:
        start = self.at
        self.at += 1
        while self._next != '"':
            self._character(start, 'this " is never closed')
        self.at += 1
        return _Item(start, empty=self.at == start + 2)

    def _characters(self) -> _Item:
        start = self.at
        self.at += 2 if self.text.startswith("[^", self.at) else 1
        first = self.at
        while self._next != "]":
            self._character(start, "this [ is never closed")
            if self._next == "-" and not self.text.startswith("-]", self.at):
                self.at += 1
                self._character(start, "this [ is never closed")
        self.at += 1
        return _Item(start, empty=self.at == first + 1)

    def _character(self, start: int, unclosed: str) -> None:
        if not self._next or self._next == "\0":
            raise _Stop(start, unclosed)
        if self._next != "\\":
            self.at += 1
            return
        escape = self.text[self.at + 1 : self.at + 2]
        if escape not in _ESCAPES:
            raise _Stop(self.at, f"there is no escape \\{escape or ' at the end'}")
        digits = self.text[self.at + 2 : self.at + 2 + _ESCAPES[escape]]
        if len(digits) < _ESCAPES[escape] or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            raise _Stop(self.at, f"\\{escape} needs {_ESCAPES[escape]} hexadecimal digits")
        self.at += 2 + len(digits)

    def _token(self) -> _Item:
        start = self.at
        self.at += self._next == "!"
        if self._next != "<":
            raise _Stop(start, "after ! comes a token, such as <[123]>")
        if self.text.startswith("<[", self.at):
            self.at += 2
            self._number("the id of a token")
            if not self.text.startswith("]>", self.at):
                raise _Stop(start, "a token by its id is written <[123]>")
            self.at += 2
            return _Item(start)
        end = self.text.find(">", self.at)
        if end < 0:
            raise _Stop(start, "this < is never closed")
        self.at = end + 1
        return _Item(start)

    # --- repetition ---

    def _repeat(self, items: list[_Item], *, newlines: bool) -> None:
        start, sign = self.at, self._next
        self.at += 1
        low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(sign) or self._bounds(start, newlines)
        if not items or items[-1].empty:
            raise _Stop(start, f"there is nothing before {sign} to repeat")
        item = items[-1]
        size = item.size * ((high or low) or 1)
        if low > _MOST_REPEATS or size > _MOST_REPEATS:
            raise _Stop(start, f"this repeats too often: a repetition may unfold to {_MOST_REPEATS:,} items")
        item.size = size
        item.vain = item.vain or (high is None and item.optional)
        item.optional = item.optional or low == 0
        item.endless = item.endless or high is None
        if high == 0:
            items[-1] = _Item(start, empty=True)

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
            raise _Stop(start, "repetitions are written {2}, {2,} or {2,5}")
        self.at += 1
        if high is not None and high < low:
            raise _Stop(start, f"{high} is less than {low}")
        return low, None if high is not None and high > _MOST_REPEATS else high

    # --- letters ---

    @property
    def _next(self) -> str:
        return self.text[self.at : self.at + 1]

    def _name(self, wanted: str) -> str:
        start = self.at
        while self._next and self._next in _WORD:
            self.at += 1
        if start == self.at:
            raise _Stop(start, f"{wanted}, not with {self._next!r}" if self._next else wanted)
        return self.text[start : self.at]

    def _number(self, what: str) -> int:
        start = self.at
        while self._next and self._next in _DIGITS:
            self.at += 1
        if start == self.at or self.at - start > 9:
            raise _Stop(start, f"here {what} is expected, a whole number")
        return int(self.text[start : self.at])

    def _space(self, *, newlines: bool) -> None:
        blanks = " \t\r\n" if newlines else " \t"
        while self._next and (self._next in blanks or self._next == "#"):
            if self._next == "#":
                while self._next and self._next not in "\r\n":
                    self.at += 1
            else:
                self.at += 1


def check(text: str) -> list[Problem]:
    """What is wrong with a grammar, in the order of its lines; nothing when it is sound. An empty one is not checked.

    A mistake in the writing ends the search; rules that are missing or never end are all found.
    """
    if not text.strip():
        return []
    parser = _Parser(text)
    try:
        parser._space(newlines=True)
        while parser.at < len(text):
            parser.rule()
    except _Stop as stop:
        return [_problem(text, stop.at, str(stop))]
    found = _missing(parser)
    if not found:
        found = _endless(parser)
    return sorted(_problem(text, at, message) for at, message in found)


def rule_count(text: str) -> int:
    """How many rules a sound grammar has."""
    parser = _Parser(text)
    parser._space(newlines=True)
    while parser.at < len(text):
        parser.rule()
    return len(parser.rules)


def _problem(text: str, at: int, message: str) -> Problem:
    before = text[:at].replace("\r\n", "\n").replace("\r", "\n")
    sentence = message if message.endswith(".") else f"{message}."
    return Problem(before.count("\n") + 1, at - max(text.rfind("\n", 0, at), text.rfind("\r", 0, at)), sentence)


def _missing(parser: _Parser) -> list[tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    for rule in parser.written:
        for item in _all(rule):
            if item.name and item.name not in parser.rules:
                found.setdefault(item.name, (item.at, f"there is no rule named {item.name}"))
    if "root" not in parser.rules:
        found["root"] = (found.get("root", (0, ""))[0], "a grammar needs a rule named root, where it begins")
    return list(found.values())


def _endless(parser: _Parser) -> list[tuple[int, str]]:
    """Rules that begin with themselves, and endless repetitions of what may be nothing."""
    empty: set[str] = set()
    while True:
        more = {name for name, rule in parser.rules.items() if _may_be_empty(rule, empty)}
        if more == empty:
            break
        empty = more
    found = [
        (item.at, "this may be nothing and is repeated without end")
        for rule in parser.rules.values()
        for item in _all(rule)
        if item.vain or (item.endless and _has_empty(item.group or parser.rules.get(item.name, [])))
    ]
    first = {name: _first(rule, empty) for name, rule in parser.rules.items()}
    for name in parser.rules:
        reached, todo = set[str](), list(first[name])
        while todo:
            each = todo.pop()
            if each not in reached:
                reached.add(each)
                todo += first[each]
        if name in reached:
            found.append((parser.places[name], f"the rule {name} begins with itself, so it would never begin"))
    return found


def _all(rule: list[list[_Item]]) -> list[_Item]:
    found: list[_Item] = []
    todo = [item for sequence in rule for item in sequence]
    while todo:
        item = todo.pop()
        found.append(item)
        todo += [each for sequence in item.group or () for each in sequence]
    return found


def _may_be_empty(rule: list[list[_Item]], empty: set[str]) -> bool:
    return any(all(item.optional or _once_empty(item, empty) for item in sequence) for sequence in rule)


def _once_empty(item: _Item, empty: set[str]) -> bool:
    """Whether it may match nothing where it is not left out."""
    if item.group is not None:
        return _may_be_empty(item.group, empty)
    return item.name in empty if item.name else item.empty


def _has_empty(rule: list[list[_Item]]) -> bool:
    """Whether one of its alternatives is written empty."""
    return any(all(item.empty for item in sequence) for sequence in rule)


def _first(rule: list[list[_Item]], empty: set[str]) -> set[str]:
    """The names of the rules that may stand at its beginning."""
    found: set[str] = set()
    for sequence in rule:
        for item in sequence:
            if item.name:
                found.add(item.name)
            found |= _first(item.group, empty) if item.group is not None else set()
            if not (item.optional or _once_empty(item, empty)):
                break
    return found
