"""The `format` keyword of strings, as schemas that llguidance can enforce: its own formats, restricted to valid values,
and our own expressions where it supports only the common forms. Data; it must not know of whole schemas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: llguidance allows 29 February in every year.
_LEAP = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29"
_DAY = f"^(?:[0-9]{{4}}-(?:0[13-9]|1[0-2])|[0-9]{{4}}-02-(?:[01]|2[0-8])|{_LEAP})"


def _leap_seconds() -> Iterator[str]:
    """Second 60 occurs at 23:59 UTC: the minute for each UTC offset in quarters of an hour."""
    fraction = r"(?:\.[0-9]+)?"
    yield f"23:59:60{fraction}(?:[zZ]|[+-]00:00)$"
    for quarter in range(1, 24 * 4):
        hours, minutes = divmod(quarter * 15, 60)
        for sign, by in (("+", 1), ("-", -1)):
            hour, minute = divmod((23 * 60 + 59 + by * quarter * 15) % (24 * 60), 60)
            yield f"{hour:02}:{minute:02}:60{fraction}[{sign}]{hours:02}:{minutes:02}$"


_SECOND = "[0-9]{2}:[0-9]{2}:[0-5]|" + "|".join(_leap_seconds())

#: RFC 3986 and 5952: groups of hexadecimal digits, the last two optionally as an IPv4 address.
_GROUP = "[0-9a-fA-F]{1,4}"
_PART = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_PART}(?:\.{_PART}){{3}}"
_LAST = f"(?:{_GROUP}:{_GROUP}|{_IPV4})"
_IPV6 = "|".join(
    [
        f"(?:{_GROUP}:){{6}}{_LAST}",
        f"::(?:{_GROUP}:){{5}}{_LAST}",
        *(f"(?:(?:{_GROUP}:){{0,{n}}}{_GROUP})?::(?:{_GROUP}:){{{4 - n}}}{_LAST}" for n in range(5)),
        f"(?:(?:{_GROUP}:){{0,5}}{_GROUP})?::{_GROUP}",
        f"(?:(?:{_GROUP}:){{0,6}}{_GROUP})?::",
    ]
)
#: RFC 5321: words with dots between or a quoted text, at a host name or an address in brackets.
_WORD = "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_EMAIL = (
    rf'(?:{_WORD}(?:\.{_WORD})*|"(?:[ !#-\[\]-~]|\\[ -~])*")'
    rf"@(?:{_LABEL}(?:\.{_LABEL})*|\[{_IPV4}\]|\[IPv6:(?:{_IPV6})\])"
)


def _whole(expression: str) -> tuple[dict[str, Any], ...]:
    return ({"pattern": f"^(?:{expression})$"},)


FORMATS: Mapping[str, tuple[dict[str, Any], ...]] = {
    **{name: ({"format": name},) for name in ("duration", "hostname", "ipv4", "uuid", "uri")},
    "ipv6": _whole(_IPV6),
    "email": _whole(_EMAIL),
    "date": ({"format": "date"}, {"pattern": _DAY}),
    "time": ({"format": "time"}, {"pattern": f"^(?:{_SECOND})"}),
    "date-time": ({"format": "date-time"}, {"pattern": _DAY}, {"pattern": f"[tT](?:{_SECOND})"}),
}
