"""Times as files tell them: seconds since the epoch, or words the way the original program writes them. Pure."""

from __future__ import annotations

import time
from typing import Any

_WORDS = "%b %d, %Y %H:%M"
_END = 32_503_600_000  # with the year 3000 the calendar of Windows ends


def seconds(value: Any, otherwise: float) -> float:
    """A number out of a file as a time; what no calendar has is `otherwise`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 <= value < _END else otherwise


def in_words(at: float) -> str:
    """Raises nothing for what `seconds` gave."""
    return time.strftime(_WORDS, time.localtime(at))


def from_words(value: Any) -> float | None:
    """The time that the words tell, as well as they tell it; None for other words."""
    try:
        at = time.mktime(time.strptime(value, _WORDS))
    except (ValueError, TypeError, OverflowError):
        return None
    return at if 0 <= at < _END else None
