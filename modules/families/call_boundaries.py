"""Whether a position in a tool call is inside an argument. A closing mark inside an argument is part of its text.

Closing marks are searched as text, so an argument that contains one (code about calls, for example) would otherwise end
the call too early. Pure.
"""

from __future__ import annotations

import re

_VALUE = re.compile(r"<(/?)[^\s<>/=]{0,40}?(?:param(?:eter)?|arg_value)(?:[=\s:][^<>\n]{0,300})?>")
_CLOSED = re.compile(r"</[^\s<>/=]{0,40}?(?:function|invoke|param(?:eter)?|arg_value)(?::\w{1,40})?>\s*\Z")
_BEGINS = re.compile(r"[{\[(]")
#: Strings in JSON's, Python's and Gemma's quotes; the last one may be unterminated.
_TEXT = re.compile(
    r'<\|"\|>.*?(?:<\|"\|>|(?P<a>\Z))|"(?:[^"\\]|\\.)*(?:"|(?P<b>\\?\Z))|\'(?:[^\'\\]|\\.)*(?:\'|(?P<c>\\?\Z))',
    re.DOTALL,
)


def ends_in_value(inside: str) -> bool:
    """Whether the text ends inside an argument whose value is written without quotes or escapes."""
    first = _VALUE.search(inside)
    begins = _BEGINS.search(inside)
    if not first or (begins and begins.start() < first.start()) or _CLOSED.search(inside[-400:]):
        return False
    open_ = False
    for tag in _VALUE.finditer(inside):
        open_ = not tag[1]
    return open_


def may_continue(inside: str) -> bool:
    """Whether it could be the beginning of a longer call although it can be parsed: JSON arguments mark their own
    end.
    """
    begins = _BEGINS.search(inside)
    return not begins or "<" in inside[: begins.start()].replace("<|", "").replace("<｜", "")


def ends_in_string(inside: str) -> bool:
    """Whether the text ends inside a quoted string."""
    begins = _BEGINS.search(inside)
    if not begins or ends_in_value(inside):
        return False
    return any(found.lastgroup for found in _TEXT.finditer(inside, begins.end()))
