"""Parses and formats the times in files: seconds since the epoch, or text as the original writes it. Pure."""

from __future__ import annotations

import time
from typing import Any

_WORDS = "%b %d, %Y %H:%M"
_END = 32_503_600_000  # Windows cannot represent later dates than the year 3000


def to_seconds(value: Any, otherwise: float) -> float:
    """A number from a file as a time; `otherwise` if it is out of range."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 <= value < _END else otherwise


def format_time(at: float) -> str:
    """Text for a time from `to_seconds`; never raises for those."""
    return time.strftime(_WORDS, time.localtime(at))


def parse_time(value: Any) -> float | None:
    """The time in a text, as precise as it is given; None for other text."""
    try:
        at = time.mktime(time.strptime(value, _WORDS))
    except (ValueError, TypeError, OverflowError):
        return None
    return at if 0 <= at < _END else None
