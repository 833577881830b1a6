"""Parses and formats the times in files: seconds since the epoch, or text as the original writes it. Pure."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any

_WORDS = "%b %d, %Y %H:%M"
#: SillyTavern's: "June 5, 2023 3:04pm" of older versions, also with a short month or 24 hours.
_SPELLED = ("%B %d, %Y %I:%M%p", "%b %d, %Y %I:%M%p", "%B %d, %Y %I:%M:%S%p", "%B %d, %Y %H:%M", _WORDS)
#: And "2023-6-5 @15h 04m 12s 345ms", in newer versions without spaces.
_PARTS = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})(?:\s*@\s*(\d{1,2})h\s*(\d{1,2})m(?:\s*(\d{1,2})s)?(?:\s*(\d{1,3})ms)?)?", re.ASCII
)
_MILLISECONDS = 100_000_000_000  # as seconds, this is beyond the year 5000
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


def parse_send_date(value: Any) -> float | None:
    """The time of a message in SillyTavern's file, in any form of its versions: an ISO date, words, parts, or
    milliseconds (or seconds) since the epoch; None for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    at: float | None
    try:
        at = _since_epoch(float(value))
    except OverflowError:
        return None
    except ValueError:
        at = _of_text(" ".join(str(value).split()))
    return at if at is not None and 0 < at < _END else None


def _since_epoch(number: float) -> float:
    return number / 1000 if number >= _MILLISECONDS else number


def _of_text(text: str) -> float | None:
    try:
        if found := _PARTS.fullmatch(text):
            year, month, day, hour, minute, second, thousandths = (int(each or 0) for each in found.groups())
            return datetime(year, month, day, hour, minute, second, 1000 * thousandths).timestamp()
        return datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text)).timestamp()  # Python 3.10 does not know Z
    except (ValueError, OverflowError, OSError):
        pass
    plain = re.sub(r" (?=[ap]\.?m\.?$)", "", text, flags=re.IGNORECASE)
    for form in _SPELLED:
        try:
            return time.mktime(time.strptime(plain, form))
        except (ValueError, OverflowError):
            continue
    return None
