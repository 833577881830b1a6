r"""Converts a regular expression of a JSON schema (JavaScript, ECMA-262) to llguidance's engine (Rust's syntax).

The two differ in easily missed details: `[a&&b]`, `[[]`, `\/`, `\s`, `{` as a character. Features that the engine lacks
(lookaround, backreferences, word boundaries) are not supported. It must not know of schemas.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

_LONGEST, _DEEPEST = 5000, 50
_MOST_REPEATS = 1000
_QUANTIFIER = re.compile(r"(?:[*+?]|\{(\d{1,6})(?:(,)(\d{1,6})?)?\})\??")
_NAMED = re.compile(r"\?<[A-Za-z_$][\w$]*>")
_PROPERTY = re.compile(r"[pP]\{[A-Za-z_]{1,40}(?:=[A-Za-z_]{1,40})?\}")
_CODE = re.compile(r"x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]{1,6})\}|c([A-Za-z])|(0)(?![0-9])")
_START = re.compile(r"\^([A-Za-z0-9_-]+)(?![*?{A-Za-z0-9_-])")
_LOW_HALF = re.compile(r"\\u([dD][c-fC-F][0-9A-Fa-f]{2})")
_LETTERS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_CLASSES = frozenset("dDwWsS")


class _NotPossible(Exception):
    """It needs an unsupported feature, or is not a valid regular expression."""


def to_engine_pattern(pattern: str) -> str | None:
    """The same expression in the engine's syntax; None if there is none, or if it is invalid in JavaScript."""
    if len(pattern) > _LONGEST:
        return None
    try:
        return _Reader(pattern).whole()
    except _NotPossible:
        return None


def are_disjoint(patterns: list[str]) -> bool:
    """Whether certainly no text can match two of these expressions: each begins differently."""
    if len(patterns) < 2:
        return True
    starts = [_START.match(each) for each in patterns]
    literals = sorted(start[1] for start in starts if start)
    if len(literals) < len(patterns) or any("|" in each for each in patterns):
        return False
    return not any(after.startswith(before) for before, after in itertools.pairwise(literals))


@dataclass
class _Reader:
    text: str
    at: int = 0

    def whole(self) -> str:
        found = self._alternatives(0)
        if self.at < len(self.text):  # an unmatched )
            raise _NotPossible
        return found

    @property
    def _next(self) -> str:
        return self.text[self.at : self.at + 1]

    def _alternatives(self, depth: int) -> str:
        if depth > _DEEPEST:
            raise _NotPossible
        found = [self._sequence(depth)]
        while self._next == "|":
            self.at += 1
            found.append(self._sequence(depth))
        return "|".join(found)

    def _sequence(self, depth: int) -> str:
        parts: list[str] = []
        while self._next and self._next not in "|)":
            if self._next == "^" and parts:  # it matches nothing, and the engine refuses it
                raise _NotPossible
            part, repeatable = self._part(depth)
            if part == "$" and self._next not in ("", "|", ")"):
                raise _NotPossible
            if match := _QUANTIFIER.match(self.text, self.at):
                if not repeatable or max(int(match[1] or 0), int(match[3] or 0)) > _MOST_REPEATS:
                    raise _NotPossible
                self.at = match.end()
                part += match[0].removesuffix("?") if len(match[0]) > 1 else match[0]  # lazy: matches the same texts
            parts.append(part)
        return "".join(parts)

    def _part(self, depth: int) -> tuple[str, bool]:
        """One repeatable part, or an anchor, which cannot be repeated."""
        character = self._next
        self.at += 1
        if character == "(":
            return self._group(depth), True
        if character == "[":
            return self._set(), True
        if character == "\\":
            return self._escape(inside=False), True
        if character in "*+?":
            raise _NotPossible
        if character in "^$":
            return character, False
        if character == ".":
            return r"[^\n\r\x{2028}\x{2029}]", True
        return _written(ord(character)), True

    def _group(self, depth: int) -> str:
        if self.text.startswith("?:", self.at):
            self.at += 2
        elif named := _NAMED.match(self.text, self.at):
            self.at = named.end()
        elif self._next == "?":
            raise _NotPossible
        inner = self._alternatives(depth + 1)
        if self._next != ")":
            raise _NotPossible
        self.at += 1
        return f"(?:{inner})"

    def _set(self) -> str:
        negated = self._next == "^"
        self.at += negated
        parts: list[str] = []
        while self._next != "]":
            low = self._member()
            if self._next == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                high = self._member()
                if isinstance(low, str) or isinstance(high, str) or low > high:
                    raise _NotPossible
                parts.append(f"{_written(low)}-{_written(high)}")
            else:
                parts.append(low if isinstance(low, str) else _written(low))
        self.at += 1
        if not parts and not negated:
            raise _NotPossible
        return f"[{'^' * negated}{''.join(parts)}]" if parts else r"[\s\S]"

    def _member(self) -> int | str:
        r"""A code point, or a class such as \d."""
        if not self._next:
            raise _NotPossible
        character = self._next
        self.at += 1
        if character != "\\":
            return ord(character)
        if self._next == "b":
            self.at += 1
            return 8
        if self._next in _CLASSES or self._next in "pP":
            return self._escape(inside=True)
        return self._code()

    def _escape(self, *, inside: bool) -> str:
        letter = self._next
        if letter == "s":
            self.at += 1
            return r"\s\x{FEFF}" if inside else r"[\s\x{FEFF}]"
        if letter == "S":
            self.at += 1
            if inside:
                raise _NotPossible
            return r"[^\s\x{FEFF}]"
        if letter and letter in _CLASSES:
            self.at += 1
            ascii_only = r"0-9" if letter in "dD" else r"0-9A-Za-z_"
            if letter in "DW" and inside:
                raise _NotPossible
            return ascii_only if inside else f"[{'^' * (letter in 'DW')}{ascii_only}]"
        if match := _PROPERTY.match(self.text, self.at):
            self.at = match.end()
            return f"\\{match[0]}"
        return _written(self._code())

    def _code(self) -> int:
        """The code point of an escape."""
        letter = self._next
        if match := _CODE.match(self.text, self.at):
            self.at = match.end()
            if match[4]:
                return ord(match[4]) % 32
            code = int(match[1] or match[2] or match[3] or "0", 16)
            low = _LOW_HALF.match(self.text, self.at)
            if 0xD800 <= code < 0xDC00 and low:
                self.at = low.end()
                code = 0x10000 + (code - 0xD800) * 0x400 + int(low[1], 16) - 0xDC00
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise _NotPossible
            return code
        self.at += 1
        if letter in _LETTERS and letter:
            return _LETTERS[letter]
        if not letter or letter.isalnum() or letter == "_":  # \b, \1, \k, and what JavaScript refuses
            raise _NotPossible
        return ord(letter)


def _written(code: int) -> str:
    """A character written as itself, inside and outside of a class."""
    character = chr(code)
    if 0xD800 <= code < 0xE000:
        raise _NotPossible
    return character if character.isalnum() else f"\\x{{{code:X}}}"
