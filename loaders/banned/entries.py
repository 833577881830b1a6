"""The list of banned strings as users and clients write it: one entry per line, or a JSON list of strings.

An entry between slashes is a regular expression; any other is found wherever it stands. It must not know how text is
searched.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from errors import InvalidInput
from loaders import safe_json

#: Limits of a list, because it is parsed and searched in the decoding thread.
MOST_ENTRIES, LONGEST_TEXT, LONGEST_ENTRY = 5000, 500_000, 400


@dataclass(frozen=True, slots=True)
class BannedEntry:
    """A string, or a regular expression (`regex`)."""

    text: str
    regex: bool = False


def parse_banned_strings(text: str) -> list[BannedEntry]:
    """The entries, each once. An entry in double quotes keeps its spaces and may contain JSON escapes.

    Raises: InvalidInput if there are too many, or one is too long or has unusable quotes.
    """
    if len(text) > LONGEST_TEXT:
        raise InvalidInput(f"banned_strings has {len(text):,} characters; the limit is {LONGEST_TEXT:,}.")
    found = dict.fromkeys(entry for line in _lines(text) if (entry := _entry(line)))
    if len(found) > MOST_ENTRIES:
        raise InvalidInput(f"banned_strings has {len(found):,} entries; the limit is {MOST_ENTRIES:,}.")
    return list(found)


def join_banned_strings(texts: Iterable[str]) -> str:
    """Several lists as one: the entries of all of them. Raises: InvalidInput."""
    used = [text for text in texts if text.strip()]
    if len(used) < 2:
        return used[0] if used else ""
    return "\n".join(dict.fromkeys(line.strip() for text in used for line in _lines(text) if line.strip()))


def write_entry(text: str) -> str:
    """A string as a line that means exactly it."""
    return text if _plain(text) and not _is_regex(text) else _quoted(text)


def _lines(text: str) -> list[str]:
    """The entries as lines: those of a JSON list in quotes where their text alone would mean something else."""
    body = text.strip()
    if body.startswith("[") and body.endswith("]"):
        try:
            values = safe_json.loads(body)
        except ValueError:
            values = None
        if isinstance(values, list):
            if not all(isinstance(value, str) for value in values):
                raise InvalidInput("banned_strings must be a list of strings.")
            return [value if _plain(value) else _quoted(value) for value in values]
    return text.split("\n")


def _plain(line: str) -> bool:
    """Whether a line that consists of this text means this text."""
    return line == line.strip() and not line.startswith(('"', "[")) and "\n" not in line


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _is_regex(line: str) -> bool:
    return len(line) > 2 and line.startswith("/") and line.endswith("/")


def _entry(line: str) -> BannedEntry | None:
    line = line.strip()
    if not line:
        return None
    if _is_regex(line):
        entry = BannedEntry(line[1:-1], regex=True)
    elif len(line) > 1 and line.startswith('"') and line.endswith('"'):
        try:
            value = safe_json.loads(line)
        except ValueError:
            raise InvalidInput(
                f'banned_strings: {line[:80]} is not a valid quoted string. Escape quotes inside it: "\\"hm\\""'
            ) from None
        entry = BannedEntry(value) if isinstance(value, str) else BannedEntry(line)
    else:
        entry = BannedEntry(line)
    if len(entry.text) > LONGEST_ENTRY:
        raise InvalidInput(f"banned_strings: {entry.text[:40]!r}... is longer than {LONGEST_ENTRY} characters.")
    return entry if entry.text else None
