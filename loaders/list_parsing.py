"""Parses lists that users write as text, such as strings and token ids for samplers. It must not know their purpose."""

from __future__ import annotations

import ast
import contextlib
from typing import Any

from errors import InvalidInput
from loaders import safe_json

#: The most characters of such a list: it is parsed in the decoding thread. Enough for the token ids of a whole
#: vocabulary.
LONGEST_LIST, LONGEST_IDS = 20_000, 2_000_000


def parse_quoted_strings(text: str, *, bare: bool = False) -> list[str]:
    r"""The strings of `"\n", "\nYou:"`: quoted and comma-separated, with or without brackets, or a JSON list.

    `bare`: without any quotes, the parts between commas count as they are. Raises: InvalidInput if it is not such a
    list.
    """
    if len(text) > LONGEST_LIST:
        raise InvalidInput(f"Invalid list of strings: it has {len(text):,} characters; the limit is {LONGEST_LIST:,}.")
    body = text.strip()
    if bare and not set(body) & set("\"'["):
        return [part.strip() for part in body.split(",") if part.strip()]
    if not body:
        return []
    if not body.startswith("["):
        body = f"[{body}]"
    strings: Any = None
    try:
        strings = safe_json.loads(body)
    except ValueError:
        with contextlib.suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            strings = ast.literal_eval(body)
    if not isinstance(strings, list) or not all(isinstance(string, str) for string in strings):
        raise InvalidInput(
            rf'Invalid list of strings: {text[:80]}. Write them in quotes, separated by commas: "\n", "\nYou:"'
        )
    return [string for string in strings if string]


def parse_numbers(name: str, text: str, *, unit: str, example: str) -> list[float]:
    """The numbers of a comma separated list, one for each GPU; none for an empty text.

    `name` is the option's, `unit` what its numbers are. Raises: InvalidInput.
    """
    body = text.strip().removesuffix(",")
    try:
        return [float(part) for part in body.split(",")] if body else []
    except ValueError:
        raise InvalidInput(f"{name} must be a list of {unit} such as {example} (got {text!r}).") from None


def parse_token_ids(text: str) -> list[int]:
    """The numbers of a comma-separated list of token ids. Raises: InvalidInput."""
    if len(text) > LONGEST_IDS:
        raise InvalidInput(f"Invalid list of token ids: it has {len(text):,} characters; the limit is {LONGEST_IDS:,}.")
    parts = [part.strip() for part in text.strip().strip("[]").split(",")]
    try:
        return [int(part) for part in parts if part]
    except ValueError:
        raise InvalidInput(f"Token ids must be integers, separated by commas (got {text[:80]!r}).") from None
