"""Writes a free text up to its end as rules of GBNF: `%text {...}` (`loaders.grammar.free_text`), which only we know.

Such texts are a regular language: an automaton reads one character at a time and knows how much of a mark it has read,
and how many characters if they are counted. Each of its states is a rule. It must not know what surrounds the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

_MOST_STATES = 2000
#: The one regular expression that is read here, that of a text that must not begin as another value does: its first
#: character is none of these.
_FIRST = re.compile(r"(?:\(\?:)?\(\?:\[\^((?:\\.|[^\]\\])+)\]\(\?s:\.\)\*\)\?\)?")
_SPACES = "\t\n\x0b\x0c\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
_SPECIAL = {"s": _SPACES}


class _State(NamedTuple):
    """What counts of the characters so far: how much of a mark they end with; how many there are, as far as that
    matters; `exact`: whether they are the beginning of the end itself, and nothing else may come.
    """

    tail: str = ""
    size: int = 0
    exact: bool = False


@dataclass
class _Automaton:
    end: str
    marks: Sequence[str]
    low: int
    high: int | None
    not_first: frozenset[str]

    def __post_init__(self) -> None:
        self._prefixes = {mark[:size] for mark in self.marks for size in range(len(mark))}
        self.letters = sorted({each for mark in self.marks for each in mark} | self.not_first)
        self._counts = self.high is not None or self.low > 0
        #: More characters count as this many, or are too many. Without a count: whether there are any.
        self._most = len(self.end) + (self.low if self.high is None else self.high) if self._counts else 1

    def read(self, state: _State, letter: str) -> _State | bool:
        """The next state; True if the text has ended, False if it cannot go on so. `letter` "" is any other."""
        text, count = state.tail + letter, state.size + 1
        if count > self._most:
            if self.high is not None:
                return False
            count = self._most
        if state.exact or (not state.size and letter in self.not_first):  # only an empty text is left
            if not letter or not self.end.startswith(text):
                return False
            if text == self.end:
                return self.low == 0
            return not any(map(text.endswith, self.marks)) and _State(text, count, True)
        if not letter:
            return _State("", count)
        if any(text.endswith(mark) for mark in self.marks):
            enough = not self._counts or count - len(self.end) >= self.low
            return enough and text.endswith(self.end)
        return _State(next(text[at:] for at in range(len(text) + 1) if text[at:] in self._prefixes), count)


def text_rules(value: Mapping[str, Any], name: str) -> str:
    """The rules of such a text, whose first has this name. Raises: ValueError, if GBNF cannot say it in some rules."""
    not_first: set[str] = set()
    for pattern in value.get("patterns", ()):
        if not (found := _FIRST.fullmatch(pattern)):
            raise ValueError("a text that must match a regular expression has no form in GBNF")
        not_first.update(_set(found[1]))
    marks = list(dict.fromkeys((value["end"], *value.get("never", ()))))
    automaton = _Automaton(value["end"], marks, value.get("minLength", 0), value.get("maxLength"), frozenset(not_first))
    moves = _moves(automaton)
    alive = _alive(moves)
    if _State() not in alive:
        raise ValueError("no text is allowed")
    numbers = {state: number for number, state in enumerate(each for each in moves if each in alive)}
    names = {state: f"{name}-{number}" if number else name for state, number in numbers.items()}
    return "\n".join(f"{names[state]} ::= {_written(moves[state], names)}" for state in names)


def _written(ways: Mapping[str, _State | bool], names: Mapping[_State, str]) -> str:
    """The alternatives of a state's rule."""
    by_target: dict[_State | bool, list[str]] = {}
    for letter, to in ways.items():
        if to is True or to in names:
            by_target.setdefault(to, []).append(letter)
    written = []
    for to, letters in by_target.items():
        shown = [each for each in ways if each not in letters] if "" in letters else letters
        characters = f"[{'^' if '' in letters else ''}{''.join(map(_escaped, shown))}]"
        written.append(characters if isinstance(to, bool) else f"{characters} {names[to]}")
    return " | ".join(written)


def _moves(automaton: _Automaton) -> dict[_State, dict[str, _State | bool]]:
    """Where each character leads, from each state that can be reached. Raises: ValueError, if they are too many."""
    moves: dict[_State, dict[str, _State | bool]] = {}
    left = [_State()]
    while left:
        if (state := left.pop()) in moves:
            continue
        if len(moves) >= _MOST_STATES:
            raise ValueError(f"a counted text needs more than {_MOST_STATES:,} rules")
        moves[state] = {letter: automaton.read(state, letter) for letter in (*automaton.letters, "")}
        left += [each for each in moves[state].values() if isinstance(each, _State)]
    return moves


def _alive(moves: Mapping[_State, Mapping[str, _State | bool]]) -> set[_State]:
    """The states from which the end can be reached."""
    before: dict[_State, list[_State]] = {}
    for state, ways in moves.items():
        for to in ways.values():
            if isinstance(to, _State):
                before.setdefault(to, []).append(state)
    left = [state for state, ways in moves.items() if any(to is True for to in ways.values())]
    alive: set[_State] = set()
    while left:
        if (state := left.pop()) not in alive:
            alive.add(state)
            left += before.get(state, ())
    return alive


def _set(inside: str) -> Iterable[str]:
    """The characters of a regular expression's set. Raises: ValueError."""
    parts = re.findall(r"\\.|[^\\]", inside, re.DOTALL)
    at = 0
    found: list[str] = []
    while at < len(parts):
        part = parts[at]
        if part[0] == "\\":
            found += _SPECIAL.get(part[1:], part[1:])
            if part[1].isalnum() and part[1:] not in _SPECIAL:
                raise ValueError(f"{part} of a regular expression has no form here")
        elif parts[at + 1 : at + 2] == ["-"] and at + 2 < len(parts):
            found += map(chr, range(ord(part), ord(parts[at + 2][-1]) + 1))
            at += 2
        else:
            found.append(part)
        at += 1
    return found


def _escaped(letter: str) -> str:
    """A character, escaped for a set."""
    code = ord(letter)
    if letter.isascii() and letter.isprintable() and letter not in '\\]["^-':
        return letter
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
