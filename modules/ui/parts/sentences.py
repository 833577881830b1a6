"""Sentences of the services in the page's language.

Services write English, into the log, the API and stored chats, which have no language. The English catalog has their
sentences with placeholders (`said`, `error`), and the other catalogs have the same keys. What no catalog has stays as
it is; of a sentence in parts ("It fits: 0.3 GB. As requested."), each part is translated by itself.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from modules.ui.texts import ENGLISH, Texts, current_texts, load_texts

_SECTIONS = ("said.", "error.")
#: A longer text is not a sentence of ours; it would take long to compare.
_LONGEST = 800
#: Between the parts of a sentence, the strongest first.
_MARKS = (". ", "? ", "; ", ": ", ", ")
#: What ends a sentence.
_ENDS = (".", "?")

#: Placeholders for what may be a sentence in parts itself; others end with their part.
_NESTED = frozenset({"advice", "asked", "cards", "near", "names", "reason", "times", "todo", "why"})
_ONE_PART = f"(?:(?!{'|'.join(re.escape(mark) for mark in _MARKS)}).)"

_NUMBERS = {"": r"-?\d+", ",": r"-?\d[\d,]*"}


@dataclass(frozen=True)
class Pattern:
    """An English sentence of the catalog; `numbers`: its placeholders that are numbers, and whether they are whole."""

    key: str
    english: re.Pattern[str]
    piece: str  # the longest part without a placeholder: a quick test
    literal: int  # characters outside of the placeholders
    capital: bool  # may also begin a sentence
    end: str  # its full stop or question mark, which `english` lacks
    numbers: Mapping[str, type[int] | type[float]]


def translated(sentence: object) -> str:
    """A sentence of a service in the page's language; unchanged if that is English."""
    text, code = str(sentence), current_texts().code
    return text if code == ENGLISH or not text or len(text) > _LONGEST else _said(text, code)


@lru_cache(1024)
def _said(text: str, code: str) -> str:
    return _translated(text, load_texts(code))


def _translated(text: str, texts: Texts) -> str:
    made = _whole(text, texts)
    if made is not None:
        return made
    if text.endswith(_ENDS):
        return _translated(text[:-1], texts) + text[-1]
    for mark in _MARKS:
        first, found, rest = text.partition(mark)
        if found:
            return f"{_translated(first, texts)}{mark}{_translated(rest, texts)}"
    return text


def _whole(text: str, texts: Texts) -> str | None:
    """The translation of a text that is one sentence of the catalog."""
    for pattern in _patterns():
        found = pattern.english.fullmatch(text) if pattern.piece in text else None
        if not found:
            continue
        values = {
            name: pattern.numbers[name](value.replace(",", ""))
            if name in pattern.numbers
            else _translated(value, texts)
            for name, value in found.groupdict().items()
        }
        made = texts(pattern.key, **values).removesuffix(pattern.end)
        return made[:1].upper() + made[1:] if pattern.capital and text[:1].isupper() else made
    return None


@cache
def _patterns() -> tuple[Pattern, ...]:
    """The most specific first."""
    return tuple(sorted(_all_patterns(), key=lambda each: -each.literal))


def _all_patterns() -> Iterator[Pattern]:
    for key, entry in load_texts(ENGLISH).entries.items():
        if key.startswith(_SECTIONS):
            for form in [entry] if isinstance(entry, str) else entry.values():
                yield _pattern(key, form, plural=not isinstance(entry, str))


def _pattern(key: str, sentence: str, *, plural: bool) -> Pattern:
    end = sentence[-1] if sentence.endswith(_ENDS) else ""
    lower = sentence[:1].islower()
    made, pieces = "", list[str]()
    numbers: dict[str, type[int] | type[float]] = {}
    for text, name, spec, _ in string.Formatter().parse(sentence.removesuffix(end)):
        first = lower and not made
        pieces.append(text[1:] if first else text)
        made += f"[{text[0]}{text[0].upper()}]{re.escape(text[1:])}" if first else re.escape(text)
        if name is None:
            continue
        if name in numbers or f"(?P<{name}>" in made:
            made += f"(?P={name})"
        elif spec or (plural and name == "n"):
            numbers[name] = float if (spec or "").endswith("f") else int
            made += f"(?P<{name}>{_number(spec or '')})"
        else:
            made += f"(?P<{name}>{'.' if name in _NESTED else _ONE_PART}*?)"
    literal = sum(map(len, pieces))
    return Pattern(key, re.compile(made, re.DOTALL), max(pieces, key=len), literal, lower, end, numbers)


def _number(spec: str) -> str:
    """What a number in this format looks like."""
    if spec in _NUMBERS:
        return _NUMBERS[spec]
    digits = int(spec.rpartition(".")[2].removesuffix("f"))
    return r"-?\d[\d,]*" + (rf"\.\d{{{digits}}}" if digits else "")
