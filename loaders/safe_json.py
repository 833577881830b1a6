"""Parses JSON from untrusted sources, with a limit on nesting.

Python's parser fails somewhere below a thousand levels, with an error that is not a ValueError, and the limit depends
on the caller's stack. Everything here that parses JSON uses this module, so that there is one limit and one kind of
error.
"""

from __future__ import annotations

import json
from typing import Any

#: Levels of lists and objects. Real files have a few dozen at most.
DEEPEST = 100

_DECODER = json.JSONDecoder()


class JsonTooDeep(ValueError):
    """It is nested more deeply than that."""

    def __init__(self) -> None:
        super().__init__(f"it is nested deeper than {DEEPEST} levels")


def loads(text: str | bytes) -> Any:
    """The value of a JSON text. Raises: ValueError; json.JSONDecodeError, with its position, if it is not JSON."""
    try:
        return _shallow(json.loads(text))
    except RecursionError:
        raise JsonTooDeep from None


def decode_first(text: str, at: int = 0) -> tuple[Any, int]:
    """The value that begins at a position in a text, and where it ends. Raises: ValueError."""
    try:
        value, end = _DECODER.raw_decode(text, at)
    except RecursionError:
        raise JsonTooDeep from None
    return _shallow(value), end


def _shallow(value: Any) -> Any:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        if not level:
            return value
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [child for children in inner for child in children if isinstance(child, dict | list)]
    if level:
        raise JsonTooDeep
    return value
