r"""Free text up to an end mark, as one terminal for llguidance's lexer: `%text {"end": "</a>", ...}`.

`end` closes it, is part of it and occurs nowhere else in it; nor do those of `never`. `patterns` are regular
expressions (Rust's syntax) that the text before its end must match as a whole; `minLength` and `maxLength` count its
characters. It is one regular expression with its end inside, because that lexer takes the longest match. It must not
know how a grammar is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KEYS = frozenset(["end", "never", "patterns", "minLength", "maxLength"])
_LONGEST = 2000  # the most characters that are counted: each is a state of the matcher
_MOST, _MOST_PATTERNS, _MOST_TEXT = 40, 4, 6000


def free_text_problem(value: Mapping[str, Any]) -> str:
    """Why such an object is invalid, "" if it is valid."""
    unknown = [key for key in value if key not in _KEYS]
    if unknown:
        return f"unknown key {unknown[0][:40]} in %text; known keys: {', '.join(sorted(_KEYS))}"
    if not isinstance(value.get("end"), str) or not 0 < len(value["end"]) <= 200:
        return '%text requires an end of 1 to 200 characters: %text {"end": "</a>"}'
    for key, most, length in (("never", _MOST, 200), ("patterns", _MOST_PATTERNS, _MOST_TEXT)):
        given = value.get(key, [])
        if not isinstance(given, list) or len(given) > most:
            return f"{key} of %text must be a list of at most {most} strings"
        if not all(isinstance(each, str) and 0 < len(each) <= length for each in given):
            return f"{key} of %text must be a list of strings of 1 to {length:,} characters"
    low, high = value.get("minLength", 0), value.get("maxLength", _LONGEST)
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in (low, high)):
        return "minLength and maxLength of %text must be integers"
    return "" if 0 <= low <= high <= _LONGEST else f"minLength and maxLength of %text must be from 0 to {_LONGEST:,}"


def free_text_regex(value: Mapping[str, Any], *, ended: bool) -> str:
    """The regular expression for llguidance; `ended`: with its end, else without and possibly empty."""
    end = escape_text(value["end"]) if ended else ""
    never = "|".join([escape_text(each) for each in (value["end"], *value.get("never", ()))])
    after = "+" if ended else "*"
    parts = [f"/{_counted(value)}{end}/", f"~/(?s:.*)(?:{never})(?s:.{after})/"]
    parts += [f"/(?:{_delimited(each)}){end}/" for each in value.get("patterns", ())]
    return " & ".join(parts)


def _counted(value: Mapping[str, Any]) -> str:
    if not value.keys() & {"minLength", "maxLength"}:
        return "(?s:.*)"
    return f"(?s:.{{{value.get('minLength', 0)},{value.get('maxLength', '')}}})"


def escape_text(text: str) -> str:
    """A text as a regular expression that matches it."""
    return "".join([each if each.isascii() and each.isalnum() else f"\\x{{{ord(each):X}}}" for each in text])


def _delimited(pattern: str) -> str:
    return pattern.replace("/", r"\x{2F}").replace("\n", r"\n").replace("\r", r"\r")
