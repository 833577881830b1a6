"""Preserves line ends that a browser's text field cannot hold: it shows every CRLF and every lone CR as one newline.

The program keeps the exact text; the field's text is merged into it, so that unchanged parts keep their line ends. Pure
functions on strings.
"""

from __future__ import annotations

import re

_ENDS = re.compile(r"\r\n|\r")


def normalize_line_ends(text: str) -> str:
    """The text as a field holds it: every line end is a newline."""
    return _ENDS.sub("\n", text)


def merge_line_ends(exact: str, field: str) -> str:
    """The field's text with the exact text's line ends, in the parts at the beginning and end that are equal."""
    if "\r" not in exact or "\r" in field:
        return field
    seen = normalize_line_ends(exact)
    if seen == field:
        return exact
    start = _common(seen, field)
    end = _common(seen[start:][::-1], field[start:][::-1])
    head = exact[: exact_position(exact, start)]
    tail = exact[exact_position(exact, len(seen) - end) :] if end else ""
    rest = field[start : len(field) - end] + tail
    if head.endswith("\r") and rest.startswith("\n"):
        head = head[:-1] + "\n"  # else the two would become one line end
    return head + rest


def exact_position(exact: str, at: int) -> int:
    """The position in the exact text for a position in the field's: never inside a CRLF."""
    for match in re.finditer(r"\r\n", exact):
        if match.start() >= at:
            break
        at += 1
    return at


def use_one_line_end(text: str, *, windows: bool) -> str:
    """The text with one kind of line end throughout."""
    return normalize_line_ends(text).replace("\n", "\r\n") if windows else normalize_line_ends(text)


def _common(one: str, other: str) -> int:
    """The length of the common prefix."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
