"""Lists that a person writes as text, such as a sampler's strings and token ids. It must not know what they are for."""

from __future__ import annotations

import ast
import contextlib
from typing import Any

from errors import InvalidInput
from loaders import plain_json

#: Characters of such a list: it is read where all replies are decoded. Of token ids, whole vocabularies have room.
LONGEST_LIST, LONGEST_IDS = 20_000, 2_000_000


def quoted_strings(text: str, *, bare: bool = False) -> list[str]:
    r"""The strings of `"\n", "\nYou:"`: quoted and comma separated, with or without brackets, or a JSON list.

    `bare`: where there is no quote at all, the parts between commas are meant as they stand.

    Raises: InvalidInput, when it is not such a list.
    """
    if len(text) > LONGEST_LIST:
        raise InvalidInput(
            f"These strings cannot be read: they have {len(text):,} characters, {LONGEST_LIST:,} at most."
        )
    body = text.strip()
    if bare and not set(body) & set("\"'["):
        return [part.strip() for part in body.split(",") if part.strip()]
    if not body:
        return []
    if not body.startswith("["):
        body = f"[{body}]"
    strings: Any = None
    try:
        strings = plain_json.loads(body)
    except ValueError:
        with contextlib.suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            strings = ast.literal_eval(body)
    if not isinstance(strings, list) or not all(isinstance(string, str) for string in strings):
        raise InvalidInput(
            rf'These strings cannot be read: {text[:80]}. Write them in quotes, with commas between: "\n", "\nYou:"'
        )
    return [string for string in strings if string]


def token_ids(text: str) -> list[int]:
    """The numbers of a comma separated list of token ids. Raises: InvalidInput."""
    if len(text) > LONGEST_IDS:
        raise InvalidInput(f"Token ids cannot be read: they have {len(text):,} characters, {LONGEST_IDS:,} at most.")
    parts = [part.strip() for part in text.strip().strip("[]").split(",")]
    try:
        return [int(part) for part in parts if part]
    except ValueError:
        raise InvalidInput(f"Token ids are whole numbers with commas between them, not {text[:80]!r}.") from None
