"""A JSON schema as a GBNF grammar: the reply can then be nothing but JSON of that form.

GBNF is what every loader's `grammar_string` takes, so a schema needs no knob of its own and no loader has to know of
schemas; that is why the conversion is here, above the loaders. What a grammar cannot say (a number's bounds, a
pattern, uniqueness) comes back as a sentence each. Pure: it knows nothing of models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from errors import InvalidSchema, utf8

_BASICS = {
    "ws": r'| " " | "\n" [ \t]{0,20}',
    "string": r'"\"" char* "\""',
    "char": r'[^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})',
    "integer": r'"-"? ("0" | [1-9] [0-9]{0,15})',
    "number": r'integer ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,3})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "value": "object | array | string | number | boolean | null",
    "object": r'"{" ws (string ":" ws value ("," ws string ":" ws value)*)? ws "}"',
    "array": r'"[" ws (value ("," ws value)*)? ws "]"',
}
_TYPES = ("string", "integer", "number", "boolean", "null", "object", "array")
_UNSAID = (
    "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "uniqueItems",
    "patternProperties", "not", "if", "contains", "dependentRequired", "minProperties", "maxProperties",
)  # fmt: skip
#: What may stand beside a reference without meaning anything for the form.
_REMARKS = frozenset(
    ["$ref", "title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly", "$defs",
     "definitions", "$schema", "$id", "$anchor", *_UNSAID]
)  # fmt: skip
_DEEPEST, _MOST_RULES, _MOST_REPEATS = 40, 2000, 1000
#: Characters of the grammar that a schema may make, and parts of it that may be looked at, each as often as it is used.
_MOST_TEXT, _MOST_PARTS = 400_000, 100_000


def json_grammar(schema: Any = None) -> tuple[str, list[str]]:
    """The grammar, and a sentence for each thing in the schema that it does not enforce. None: any JSON object.

    Raises: InvalidSchema, with the place.
    """
    writer = _Writer(schema)
    root = "object" if schema is None else writer.rule(schema, "#", 0)
    rules = {"root": root, **writer.rules, **_BASICS}
    return "\n".join(f"{name} ::= {text}" for name, text in rules.items()) + "\n", writer.notes


def literal(text: str) -> str:
    """A text as a GBNF literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


class _Writer:
    def __init__(self, whole: Any) -> None:
        self.rules: dict[str, str] = {}
        self.notes: list[str] = []
        self._whole = whole
        self._references: dict[str, str] = {}
        self._text = self._parts = 0

    def rule(self, schema: Any, place: str, depth: int) -> str:
        """The name of a rule (or its text, where that is short) for a schema."""
        self._count(place)
        if depth > _DEEPEST or len(self.rules) > _MOST_RULES:
            raise InvalidSchema("it is nested too deeply or too large", place)
        if schema is True or schema == {}:
            return "value"
        if not isinstance(schema, Mapping):
            raise InvalidSchema(f"a schema is an object, not {json.dumps(schema, default=str)[:40]}", place)
        for key in _UNSAID:
            if key in schema:
                self._note(f"The schema's {key} at {place} is not enforced.")
        if "$ref" in schema:
            for key in schema.keys() - _REMARKS:
                self._note(f"The schema's {key} beside $ref at {place} is not enforced.")
            return self._reference(schema["$ref"], place, depth)
        if "const" in schema:
            return _json_literal(schema["const"], place)
        if "enum" in schema:
            choices = schema["enum"]
            if not isinstance(choices, list) or not choices:
                raise InvalidSchema("enum is a list with at least one value", place)
            self._count(place, len(choices))
            return self._add(" | ".join(_json_literal(each, place) for each in choices), place)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                parts = _sequence(schema[key], f"{place}/{key}")
                rest = {name: value for name, value in schema.items() if name in ("type", "properties", "required")}
                return self._add(
                    " | ".join(
                        self.rule(_merged(rest, part), f"{place}/{key}/{i}", depth + 1) for i, part in enumerate(parts)
                    )
                )
        if "allOf" in schema:
            whole = {key: value for key, value in schema.items() if key != "allOf"}
            for i, part in enumerate(_sequence(schema["allOf"], f"{place}/allOf")):
                whole = _merged(whole, self._resolved(part, f"{place}/allOf/{i}"))
                self._count(place, sum(len(each) for each in whole.values() if isinstance(each, Mapping | list)))
            return self.rule(whole, place, depth + 1)
        return self._typed(schema, place, depth)

    def _typed(self, schema: Mapping[str, Any], place: str, depth: int) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            parts = [self.rule({**schema, "type": each}, place, depth + 1) for each in kind]
            return self._add(" | ".join(parts)) if parts else "value"
        if kind is None:
            kind = "object" if "properties" in schema else "array" if "items" in schema else None
        if kind is None:
            return "value"
        if kind not in _TYPES:
            raise InvalidSchema(f"there is no type {json.dumps(kind, default=str)[:40]}", place)
        if kind == "string" and ("minLength" in schema or "maxLength" in schema):
            low, high = self._bounds(schema, "minLength", "maxLength", place)
            return self._add(f'"\\"" char{_times(low, high)} "\\""')
        if kind == "array":
            return self._array(schema, place, depth)
        if kind == "object":
            return self._object(schema, place, depth)
        return str(kind)

    def _array(self, schema: Mapping[str, Any], place: str, depth: int) -> str:
        low, high = self._bounds(schema, "minItems", "maxItems", place)
        if "prefixItems" in schema:
            first = _sequence(schema["prefixItems"], f"{place}/prefixItems")
            parts = [self.rule(each, f"{place}/prefixItems/{i}", depth + 1) for i, each in enumerate(first)]
            if schema.get("items", False) is not False:
                self._note(
                    f"The schema's items at {place} is not used: its prefixItems are written, no more and no less."
                )
            if not low <= len(parts) <= (len(parts) if high is None else high):
                self._note(f"The schema's minItems and maxItems at {place} are not enforced beside prefixItems.")
            return self._add('"[" ws ' + ' "," ws '.join(f"({part})" for part in parts) + ' ws "]"')
        item = self.rule(schema.get("items", True), f"{place}/items", depth + 1)
        if high == 0:
            return '"[" ws "]"'
        more = f'("," ws ({item})){_times(max(low - 1, 0), None if high is None else high - 1)}'
        inner = f"({item}) {more}" if low else f"(({item}) {more})?"
        return self._add(f'"[" ws {inner} ws "]"')

    def _object(self, schema: Mapping[str, Any], place: str, depth: int) -> str:
        properties = schema.get("properties", {})
        if not isinstance(properties, Mapping):
            raise InvalidSchema("properties is an object", place)
        more = schema.get("additionalProperties", not properties)
        required = schema.get("required", [])
        if not isinstance(required, list):
            raise InvalidSchema("required is a list of names", place)
        for name in required:
            if name not in properties:
                self._note(f"The schema's required {str(name)[:60]} at {place} is not enforced: properties lacks it.")
        if not properties:
            if more is False:
                return '"{" ws "}"'
            if more is True or more == {}:
                return "object"
            value = self.rule(more, f"{place}/additionalProperties", depth + 1)
            return self._add(f'"{{" ws (string ":" ws ({value}) ("," ws string ":" ws ({value}))*)? ws "}}"')
        pairs = [
            (
                name in required,
                self._add(
                    f'{_json_literal(str(name), place)} ":" ws '
                    f"({self.rule(value, f'{place}/properties/{name}', depth + 1)})"
                ),
            )
            for name, value in properties.items()
        ]
        return self._add(f'"{{" ws {self._members(pairs)} ws "}}"')

    def _members(self, pairs: Sequence[tuple[bool, str]]) -> str:
        """Properties in their order; those that are not required may be left out, with their commas."""
        after = '""'  # what may follow once something stands
        starts: list[str] = []
        for needed, pair in reversed(pairs):
            following = self._add(f'"," ws {pair} {after}' if needed else f'("," ws {pair} {after}) | {after}')
            first = f"{pair} {after}"
            starts = [first] if needed else [first, *starts]
            after = following
        if not any(needed for needed, _ in pairs):
            starts.append('""')
        return "(" + " | ".join(starts) + ")"

    def _reference(self, reference: Any, place: str, depth: int) -> str:
        if not isinstance(reference, str):
            raise InvalidSchema("$ref is a text", place)
        if reference not in self._references:
            name = f"ref{len(self._references)}"
            self._references[reference] = name
            self.rules[name] = ""  # it may refer to itself
            target = self._resolved({"$ref": reference}, place)
            self.rules[name] = self.rule(target, reference, depth + 1)
        return self._references[reference]

    def _resolved(self, schema: Any, place: str) -> Any:
        for _ in range(_DEEPEST):
            if not isinstance(schema, Mapping) or "$ref" not in schema:
                return schema
            reference = schema["$ref"]
            if not isinstance(reference, str) or not reference.startswith("#"):
                raise InvalidSchema("only references within the schema (#/...) can be followed", place)
            schema = self._whole
            for part in reference[1:].split("/")[1:]:
                key = part.replace("~1", "/").replace("~0", "~")
                if not isinstance(schema, Mapping) or key not in schema:
                    raise InvalidSchema(f"there is nothing at {reference[:80]}", place)
                schema = schema[key]
        raise InvalidSchema("its references go in a circle", place)

    def _bounds(self, schema: Mapping[str, Any], least: str, most: str, place: str) -> tuple[int, int | None]:
        low, high = schema.get(least, 0), schema.get(most)
        for value in (low, high):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise InvalidSchema(f"{least} and {most} are whole numbers from 0 on", place)
        if high is not None and high < low:
            raise InvalidSchema(f"{most} is smaller than {least}", place)
        if max(low, high or 0) > _MOST_REPEATS:
            self._note(f"The schema's {least} and {most} at {place} are enforced up to {_MOST_REPEATS} only.")
            return min(low, _MOST_REPEATS), None
        return low, high

    def _count(self, place: str, parts: int = 1, text: int = 0) -> None:
        """Raises: InvalidSchema, when more is made of a schema than one may take."""
        self._parts += parts
        self._text += text
        if self._parts > _MOST_PARTS or self._text > _MOST_TEXT:
            raise InvalidSchema("it is too large: its grammar would take too long to follow", place)

    def _add(self, text: str, place: str = "#") -> str:
        self._count(place, text=len(text))
        name = f"r{len(self.rules)}"
        self.rules[name] = text
        return name

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes and len(self.notes) < 20:
            self.notes.append(sentence)


def _times(low: int, high: int | None) -> str:
    if high is None:
        return "*" if low == 0 else f"{{{low},}}"
    return f"{{{low},{high}}}" if high else "{0,0}"


def _json_literal(value: Any, place: str) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        raise InvalidSchema("a value in it is not JSON", place) from None
    except RecursionError:
        raise InvalidSchema("it is nested too deeply or too large", place) from None
    utf8(text, f"The JSON schema at {place}")
    return literal(text)


def _sequence(value: Any, place: str) -> Sequence[Any]:
    if not isinstance(value, list) or not value:
        raise InvalidSchema("this is a list with at least one schema", place)
    return value


def _merged(one: Mapping[str, Any], other: Any) -> Any:
    if not isinstance(other, Mapping):
        return other
    merged = {**one, **other}
    for key in ("properties", "required"):
        a, b = one.get(key), other.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            merged[key] = {**a, **b}
        elif isinstance(a, list) and isinstance(b, list):
            merged[key] = [*a, *b]
    return merged
