"""Converts the text of a JSON schema to a grammar, or reports the line with the error.

Text in, text out; the schema's meaning is handled by grammar.py.
"""

from __future__ import annotations

import json
import re

from errors import InvalidSchema
from loaders import safe_json
from modules.prompts.json_schema.grammar import json_grammar

_BLANK = re.compile(r"[ \t\r\n]*")


def schema_grammar(text: str) -> tuple[str, list[str]]:
    """The GBNF grammar, and a sentence for each thing that it does not enforce.

    Raises: InvalidSchema, with the line.
    """
    if not text.strip():
        raise InvalidSchema('the field is empty. Paste a schema, such as {"type": "object"}')
    try:
        schema = safe_json.loads(text)
    except json.JSONDecodeError as error:
        why = f"it is not valid JSON ({error.msg[:1].lower()}{error.msg[1:]}, column {error.colno})"
        raise InvalidSchema(why, line=error.lineno) from None
    except ValueError as error:  # nested too deeply, or a number with thousands of digits
        raise InvalidSchema(str(error)) from None
    try:
        return json_grammar(schema)
    except InvalidSchema as error:
        raise InvalidSchema(error.why, error.place, line_of_pointer(text, error.place)) from None


def line_of_pointer(text: str, pointer: str) -> int:
    """The line of a JSON text in which the value of a pointer (#/properties/a) begins, or its last existing part."""
    at = _skip(text, 0)
    for part in pointer.split("/")[1:]:
        found = _member(text, at, part.replace("~1", "/").replace("~0", "~"))
        if found is None:
            break
        at = found
    return text.count("\n", 0, at) + 1


def _member(text: str, at: int, part: str) -> int | None:
    """The position of a member in the object or array that begins at `at`."""
    if text[at] not in "{[":
        return None
    named, number = text[at] == "{", 0
    at = _skip(text, at + 1)
    while text[at] not in "}]":
        key: object = str(number)
        if named:
            key, at = json.JSONDecoder().raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)  # the colon
        if key == part:
            return at
        _, at = json.JSONDecoder().raw_decode(text, at)
        at = _skip(text, at)
        at = _skip(text, at + 1) if text[at] == "," else at
        number += 1
    return None


def _skip(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at
