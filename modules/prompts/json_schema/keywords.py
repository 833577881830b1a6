"""The keywords of JSON schemas: which are annotations, how those of numbers and strings are written for llguidance, and
what is reported about unsupported ones.

Data and small functions; it must not know of whole schemas.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from errors import InvalidSchema
from modules.prompts.json_schema.facts import TYPES
from modules.prompts.json_schema.formats import FORMATS
from modules.prompts.json_schema.pattern import to_engine_pattern

#: Keywords that describe a schema and restrict nothing.
_REMARKS = frozenset(
    ["title", "description", "default", "examples", "example", "$comment", "deprecated", "readOnly", "writeOnly",
     "$defs", "definitions", "$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$vocabulary", "externalDocs", "xml",
     "discriminator", "propertyOrdering", "nullable"]
)  # fmt: skip
#: The keywords that apply to values of one type.
FORMS: Mapping[str, tuple[str, ...]] = {
    "object": ("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("pattern", "minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
#: Keywords of the specification that our grammars do not enforce.
_BEYOND = frozenset(
    ["not", "if", "then", "else", "contains", "minContains", "maxContains", "uniqueItems", "propertyNames",
     "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties", "unevaluatedItems",
     "$dynamicRef", "$recursiveRef", "$recursiveAnchor", "contentEncoding", "contentMediaType", "contentSchema"]
)  # fmt: skip

#: OpenAPI's formats: limits of integers, and those that numbers and strings have anyway.
_WHOLE: Mapping[str, int] = {"int8": 7, "int16": 15, "int32": 31, "int64": 63}
#: llguidance reads limits as floating-point numbers, and 2**63 is too large for it.
_WIDEST = 2**63 - 1024
_NO_FORM = frozenset(["float", "double", "password", "string"])

#: The largest integer that every JSON parser reads exactly (RFC 8259, section 6).
LARGEST_INTEGER = 2**53 - 1
_LARGEST, _MOST_MULTIPLE, _FINEST = 10**15, 10_000, -9
_MOST_PLACES, _MOST_SAID = 3, 20


def is_annotation(key: str) -> bool:
    """Whether a keyword restricts nothing."""
    return key in _REMARKS or (key.startswith("x-") and key != "x-guidance")


def kind_of(name: Any, place: str) -> None:
    """The type that a keyword applies to. Raises: InvalidSchema if there is no such type."""
    if name not in TYPES:
        raise InvalidSchema(f"unknown type {ascii(name)[:40]}", place)


def number_keyword(key: str, value: Any, place: str) -> list[Any] | None:
    """How a limit or multipleOf is written, as schemas that must be fulfilled; None if that is not possible.

    Raises: InvalidSchema.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidSchema(f"{key} must be a number", place)
    if key != "multipleOf":
        return [{key: value}] if abs(value) < _LARGEST else None
    try:
        _, digits, exponent = Decimal(str(value)).normalize().as_tuple()
    except InvalidOperation:
        return None
    if value <= 0:
        raise InvalidSchema("multipleOf must be greater than 0", place)
    step = int("".join(map(str, digits))) * 10 ** max(int(exponent), 0) if int(exponent) < 9 else _LARGEST
    return [{key: value}] if step <= _MOST_MULTIPLE and int(exponent) >= _FINEST else None


def text_keyword(key: str, value: Any, place: str) -> list[Any] | None:
    """The same for pattern and format."""
    if not isinstance(value, str):
        raise InvalidSchema(f"{key} must be a string", place)
    if key == "pattern":
        pattern = to_engine_pattern(value)
        return None if pattern is None else [{key: pattern}]
    if value in FORMATS:
        return [dict(each) for each in FORMATS[value]]
    if value in _WHOLE:
        most = 2 ** _WHOLE[value]
        return [{"minimum": max(-most, -_WIDEST), "maximum": min(most - 1, _WIDEST)}]
    return [] if value in _NO_FORM else None


def property_name_pattern(schema: Any) -> str | None:
    """The pattern that is equivalent to a schema for strings (propertyNames), if it is a simple one."""
    if not isinstance(schema, Mapping) or schema.get("type", "string") != "string":
        return None
    asked = {key: value for key, value in schema.items() if not is_annotation(key) and key != "type"}
    listed = [asked["const"]] if "const" in asked else asked.get("enum")
    if len(asked) == 1 and isinstance(listed, list) and all(isinstance(each, str) for each in listed):
        return "^(?:" + "|".join([re.sub(r"\W", _escaped, each) for each in listed]) + ")$"
    if asked.keys() == {"pattern"} and isinstance(asked["pattern"], str):
        return asked["pattern"]
    low, high = asked.get("minLength", 0), asked.get("maxLength", "")
    if asked and asked.keys() <= {"minLength", "maxLength"} and isinstance(low, int) and isinstance(high, int | str):
        return rf"^[\s\S]{{{low},{high}}}$"
    return None


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{{{ord(match[0]):X}}}"


class UnenforcedKeywords:
    """What a schema requires and its grammar does not enforce: each keyword with its places."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = {}
        self._unknown: dict[str, str] = {}
        self._said: list[str] = []

    def say(self, sentence: str) -> None:
        """Add a sentence about the whole schema."""
        self._said.append(sentence)

    def add(self, key: str, place: str) -> None:
        known = key in _BEYOND or any(key in keys for keys in FORMS.values()) or is_annotation(key)
        if known or key in ("format", "oneOf", "type", "enum", "const", "$ref", "anyOf", "allOf"):
            places = self._places.setdefault(key, [])
            if place not in places:
                places.append(place)
        else:
            self._unknown.setdefault(key, place)

    def sentences(self) -> list[str]:
        said = [*self._said, *(self._sentence(key, places) for key, places in self._places.items())]
        unknown = [f"{key[:60]} at {place[:100]}" for key, place in self._unknown.items()]
        if unknown:
            what = "is not a known keyword and is" if len(unknown) == 1 else "are not known keywords and are"
            said.append(f"In the schema {_listed(unknown, _MOST_SAID)} {what} not enforced.")
        return said

    def _sentence(self, key: str, places: list[str]) -> str:
        where = _listed([place[:100] for place in places], _MOST_PLACES)
        if key == "oneOf":
            return (
                f"The schema's oneOf at {where} is treated as anyOf: it is not enforced that only one alternative "
                "matches."
            )
        return f"The schema's {key} at {where} is not enforced."


def _listed(words: list[str], most: int) -> str:
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most:,} more"
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
