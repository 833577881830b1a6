"""Line ends that a browser's text field cannot hold: it shows every CRLF and every lone CR as one newline.

The program keeps the exact text; what comes back from the field is laid over it, so that all that was not touched keeps
its own line ends. Pure functions on strings.
"""

from __future__ import annotations

import re

_ENDS = re.compile(r"\r\n|\r")


def plain(text: str) -> str:
    """The text as a field holds it: every line end is a newline."""
    return _ENDS.sub("\n", text)


def laid_over(exact: str, field: str) -> str:
    """The field's text with the line ends of the exact one, wherever the two agree at the beginning and at the end."""
    if "\r" not in exact or "\r" in field:
        return field
    seen = plain(exact)
    if seen == field:
        return exact
    start = _common(seen, field)
    end = _common(seen[start:][::-1], field[start:][::-1])
    head = exact[: position(exact, start)]
    tail = exact[position(exact, len(seen) - end) :] if end else ""
    rest = field[start : len(field) - end] + tail
    if head.endswith("\r") and rest.startswith("\n"):
        head = head[:-1] + "\n"  # else the two would become one line end
    return head + rest


def position(exact: str, at: int) -> int:
    """Where in the exact text the field's position lies: never within a CRLF."""
    for match in re.finditer(r"\r\n", exact):
        if match.start() >= at:
            break
        at += 1
    return at


def with_ends(text: str, *, windows: bool) -> str:
    """The text with one kind of line end throughout."""
    return plain(text).replace("\n", "\r\n") if windows else plain(text)


def _common(one: str, other: str) -> int:
    """How many characters are the same from the beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
