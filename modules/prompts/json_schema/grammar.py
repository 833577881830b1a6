"""Converts a JSON schema to a grammar, so that the reply must be JSON of that form.

The grammar is one `%json {...}`, which llguidance matches beside the decoding; so no loader has to know of this. The
schema is converted to a form that llguidance can enforce: references resolved, keywords of other drafts and of OpenAPI
written as current ones, and unsupported ones removed, with a sentence each. Objects and arrays contain only what a
schema names, unless it allows more. Pure: it knows nothing of models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from errors import InvalidSchema, encode_utf8
from modules.prompts.json_schema.facts import SchemaFacts
from modules.prompts.json_schema.keywords import (
    FORMS,
    LARGEST_INTEGER,
    UnenforcedKeywords,
    is_annotation,
    kind_of,
    number_keyword,
    property_name_pattern,
    text_keyword,
)
from modules.prompts.json_schema.pattern import are_disjoint, to_engine_pattern
from modules.prompts.json_schema.references import SchemaReferences

_DEEPEST, _MOST_PROPERTIES = 40, 2000
#: Limits: parts and values of a schema, and characters of the result.
_MOST_PARTS, _MOST_TEXT = 20_000, 400_000
_MOST_COMPARED = 100  # alternatives of oneOf, which are compared in pairs
_OLD_DRAFTS = ("draft-03", "draft-04", "draft-06", "draft-07")
_COUNTS = {"minItems": "maxItems", "minLength": "maxLength", "minProperties": "maxProperties"}
_MOST_COUNTED = {"minItems": 1000, "minLength": 100_000, "minProperties": 1000}


def json_grammar(schema: Any = None, *, literally: bool = False) -> tuple[str, list[str]]:
    """The grammar, and a sentence for each part of the schema that it does not enforce. None: any JSON object.

    `literally`: everything that a schema does not forbid is allowed, such as properties that it does not name. Raises:
    InvalidSchema, with the path.
    """
    writer = _Writer(schema, literally)
    form = {"type": "object"} if schema is None else writer.whole(schema)
    try:
        text = json.dumps(form, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        raise InvalidSchema("it contains a value that is not valid JSON", "#") from None
    encode_utf8(text, "The JSON schema")
    if len(text) > _MOST_TEXT:
        raise InvalidSchema("it is too large to follow", "#")
    return f"root ::= %json {text}\n", writer.notes.sentences()


def gbnf_literal(text: str) -> str:
    """A text as a GBNF literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


class _Writer:
    def __init__(self, whole: Any, literally: bool) -> None:
        self.notes = UnenforcedKeywords()
        self._document = whole
        self.literally = literally
        #: Whether its draft ignores everything next to $ref; whether the schema says which draft it uses.
        self.old = isinstance(whole, Mapping) and any(draft in str(whole.get("$schema")) for draft in _OLD_DRAFTS)
        self._references = SchemaReferences(whole, old=self.old)
        self.facts = SchemaFacts(lambda part: self._references.target(part["$ref"], part, "#"))
        self.dated = isinstance(whole, Mapping) and "$schema" in whole
        named = str(whole.get("$schema", "")) if isinstance(whole, Mapping) else ""
        if named and "json-schema.org/" not in named and "spec.openapis.org/" not in named:
            self.notes.say(f"The schema's $schema ({named[:80]}) is not loaded: keywords have their usual meaning.")
        self._parts = 0
        self._names: dict[tuple[int, bool], str] = {}
        self._todo: list[tuple[Any, str, bool, str]] = []

    def whole(self, schema: Any) -> dict[str, Any]:
        """Raises: InvalidSchema."""
        form = self.form(schema, "#", 0, alone=True)
        if form is False:
            raise InvalidSchema("it matches nothing", "#")
        defined: dict[str, Any] = {}
        while self._todo:
            target, name, alone, place = self._todo.pop()
            defined[name] = self.form(target, place, 0, alone=alone)
        form = dict(form) if isinstance(form, Mapping) else {}
        return {**form, "$defs": defined} if defined else form

    def form(self, schema: Any, place: str, depth: int, *, alone: bool) -> Any:
        """A schema in the supported form. `alone`: no other schema applies to the same value."""
        self.count(place)
        if depth > _DEEPEST:
            raise InvalidSchema("it is nested too deeply or too large", place)
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            raise InvalidSchema(f"a schema must be an object, not {json.dumps(schema, default=str)[:40]}", place)
        return _Form(self, schema, place, depth, alone).made()

    def reference(self, reference: Any, origin: Any, place: str, *, alone: bool) -> str:
        """The path of a referenced schema, which is converted once. Raises: InvalidSchema."""
        return self.defined(self._references.target(reference, origin, place), str(reference), alone=alone)

    def defined(self, target: Any, place: str, *, alone: bool) -> str:
        key = (id(target), alone)
        if key not in self._names:
            self._names[key] = f"d{len(self._names)}"
            self._todo.append((target, self._names[key], alone, place))
        return f"#/$defs/{self._names[key]}"

    def target(self, schema: Mapping[str, Any], place: str) -> Any:
        return self._references.target(schema["$ref"], schema, place)

    def dynamic(self, reference: Any) -> Any:
        return self._document if reference == "#" else self._references.dynamic(reference)

    def count(self, place: str, parts: int = 1) -> None:
        """Count a part. Raises: InvalidSchema if the result becomes too large."""
        self._parts += parts
        if self._parts > _MOST_PARTS:
            raise InvalidSchema("it is too large to follow", place)


class _Form:
    """One schema during its conversion."""

    def __init__(self, writer: _Writer, schema: Mapping[str, Any], place: str, depth: int, alone: bool) -> None:
        self._writer = writer
        self._given = {str(key): value for key, value in schema.items()}
        self._schema = schema
        self._place, self._depth = place, depth
        #: Whether its alternatives or references determine the whole form.
        self._hands_on = len([key for key in schema if not is_annotation(key) and key != "type"]) == 1
        self._alone = alone
        self._narrow = alone and not writer.literally
        self._out: dict[str, Any] = {}
        self._all: list[Any] = []

    def made(self) -> Any:
        given = self._given
        if "$ref" in given and self._writer.old:
            for key in given:
                if key != "$ref" and not is_annotation(key):
                    self._unsaid(key)
            self._given = given = {"$ref": given["$ref"]}
        if "$ref" in given and "$id" in given and not self._writer.dated:
            self._unsaid("$id")
        self._of_other_drafts()
        self._bounds()
        self._names()
        for key, value in self._given.items():
            self._keyword(key, value)
        if self._narrow:
            self._close()
            self._limit_integers()
        if self._all:
            self._out["allOf"] = self._all
        if given.get("nullable") is True and self._out:
            return {"anyOf": [self._out, {"type": "null"}]}
        return self._out

    # --- what is written otherwise elsewhere ---

    def _of_other_drafts(self) -> None:
        given = self._given
        for key, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if isinstance(given.get(key), bool) and given.pop(key) and bound in given:  # draft 4
                given[key] = given.pop(bound)
        if isinstance(given.get("items"), list):  # drafts 4 to 2019-09
            self._given = given = {{"items": "prefixItems"}.get(key, key): value for key, value in given.items()}
            if not given["prefixItems"]:
                del given["prefixItems"]
            if "additionalItems" in given:
                given["items"] = given.pop("additionalItems")
        given.pop("additionalItems", None)  # it has no meaning elsewhere
        for key in ("$dynamicRef", "$recursiveRef"):
            target = self._writer.dynamic(given[key]) if key in given else None
            if target is not None:
                del given[key]
                self._all.append({"$ref": self._writer.defined(target, self._place, alone=False)})

    def _bounds(self) -> None:
        for least, most in _COUNTS.items():
            for key in (least, most):
                value = self._given.get(key)
                if isinstance(value, float) and value.is_integer():
                    self._given[key] = value = int(value)
                if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                    raise InvalidSchema(f"{least} and {most} must be integers >= 0", self._place)
            low, high = self._given.get(least), self._given.get(most)
            if low is not None and high is not None and high < low:
                raise InvalidSchema(f"{most} is less than {least}", self._place)
            for key in (least, most):
                if self._given.get(key, 0) > _MOST_COUNTED[least]:
                    self._drop(key)

    # --- keywords ---

    def _keyword(self, key: str, value: Any) -> None:
        inner = f"{self._place}/{key}"
        if is_annotation(key):
            return
        if key == "$ref":
            alone = self._alone and self._hands_on
            self._out[key] = self._writer.reference(value, self._schema, self._place, alone=alone)
        elif key in ("anyOf", "oneOf", "allOf"):
            self._alternatives(key, self._list(value, inner), inner)
        elif key in ("type", "const", "enum"):
            self._value_keyword(key, value)
        elif key == "prefixItems":
            parts = self._list(value, inner)
            self._out[key] = [self._sub(each, f"{inner}/{i}", alone=self._alone) for i, each in enumerate(parts)]
        elif key in ("items", "additionalProperties"):
            self._out[key] = self._sub(value, inner, alone=self._alone)
        elif key in FORMS["object"]:
            self._object_keyword(key, value, inner)
        elif key in FORMS["number"]:
            self._keep(key, number_keyword(key, value, self._place))
        elif key in ("pattern", "format"):
            self._keep(key, text_keyword(key, value, self._place))
        elif key in ("minItems", "maxItems", "minLength", "maxLength"):
            self._out[key] = value
        else:
            self._unsaid(key)

    def _keep(self, key: str, parts: list[Any] | None) -> None:
        """How a keyword is written: schemas that must all be fulfilled, or None if that is not possible."""
        if parts is None:
            self._unsaid(key)
        for part in parts or ():
            if set(part) & set(self._out):
                self._all.append(part)
            else:
                self._out.update(part)

    def _alternatives(self, key: str, parts: list[Any], inner: str) -> None:
        alone = self._alone and self._hands_on and key != "allOf"
        made = [self._sub(each, f"{inner}/{i}", alone=alone) for i, each in enumerate(parts)]
        if key == "allOf":
            self._all += made
            return
        if key == "oneOf" and not self._excluding(parts):
            self._writer.notes.add("oneOf", self._place)
        if "anyOf" in self._out:
            self._all.append({"anyOf": made})
        else:
            self._out["anyOf"] = made

    def _excluding(self, parts: list[Any]) -> bool:
        """Whether all of them exclude each other, so that oneOf equals anyOf."""
        if len(parts) > _MOST_COMPARED:
            return False
        self._writer.count(self._place, len(parts))
        closed = self._narrow and self._hands_on
        return all(
            self._writer.facts.exclude(one, other, closed=closed) for i, one in enumerate(parts) for other in parts[:i]
        )

    def _value_keyword(self, key: str, value: Any) -> None:
        if key == "type":
            named = value if isinstance(value, list) else [value]
            for each in named:
                kind_of(each, self._place)
            if named:
                self._out[key] = value
            return
        values = [value] if key == "const" else value
        if not isinstance(values, list) or not values:
            raise InvalidSchema("enum must be a list with at least one value", self._place)
        self._writer.count(self._place, len(values))
        for each in values:
            text = _json(each, self._place)
            encode_utf8(text, f"The JSON schema at {self._place}")
            if isinstance(each, int) and abs(each) > 2**53:  # it is matched as a floating-point number
                raise InvalidSchema(f"the number {text[:40]} is too large", self._place)
        self._out[key] = value

    def _object_keyword(self, key: str, value: Any, inner: str) -> None:
        if key == "properties":
            if not isinstance(value, Mapping):
                raise InvalidSchema("properties must be an object", self._place)
            if len(value) > _MOST_PROPERTIES:
                raise InvalidSchema("it is too large: an object has thousands of properties", self._place)
            for name in value:
                encode_utf8(str(name), f"The JSON schema at {self._place}")
            self._out[key] = {
                str(name): self._sub(each, f"{inner}/{name}", alone=self._alone) for name, each in value.items()
            }
        elif key == "required":
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise InvalidSchema("required must be a list of names", self._place)
            self._out[key] = list(dict.fromkeys(value))
        elif key == "patternProperties":
            self._out[key] = {
                to_engine_pattern(str(name)): self._sub(each, f"{inner}/{name}", alone=False)
                for name, each in value.items()
            }
        elif self._countable(key, value):
            self._out[key] = value
        else:
            self._unsaid(key)

    def _names(self) -> None:
        """Convert propertyNames to patternProperties, and keep these only if they can be enforced."""
        given = self._given
        names = given.get("propertyNames")
        if isinstance(names, Mapping) and "$ref" in names:
            names = self._writer.target(names, self._place)
        pattern = property_name_pattern(names)
        if pattern is not None and not given.keys() & {"properties", "patternProperties"}:
            del given["propertyNames"]
            given["patternProperties"] = {pattern: given.get("additionalProperties", True)}
            given["additionalProperties"] = False
        if "patternProperties" not in given:
            return
        if not isinstance(given["patternProperties"], Mapping):
            raise InvalidSchema("patternProperties must be an object", self._place)
        patterns = [to_engine_pattern(str(each)) for each in given["patternProperties"]]
        if None in patterns or not are_disjoint(list(map(str, given["patternProperties"]))):
            self._drop("patternProperties")
            if "additionalProperties" in given:  # properties that match a pattern are not additional ones
                self._drop("additionalProperties")

    def _countable(self, key: str, value: int) -> bool:
        """Whether the number of properties can be enforced: all named ones must be present, or one of them."""
        given = self._given
        if not self._alone or any(each in given for each in ("allOf", "anyOf", "oneOf", "$ref", "patternProperties")):
            return False
        required = given.get("required", ())
        if all(each in required for each in given.get("properties", ())):
            return True
        closed = not given.get("additionalProperties", not self._narrow)
        return closed and key == "minProperties" and value <= 1 and "maxProperties" not in given

    # --- what is meant, though it is not said ---

    def _close(self) -> None:
        """Allow no properties and items but the named ones, and only the type that the keywords apply to."""
        given, facts = self._given, self._writer.facts
        beside = [key for key in ("allOf", "anyOf", "oneOf", "$ref", "enum", "const") if key in given]
        if not beside and "type" not in given:
            kinds = [kind for kind, keys in FORMS.items() if any(key in given for key in keys)]
            if len(kinds) == 1:
                self._out["type"] = kinds[0]
        if "prefixItems" in given and "items" not in given and not beside:
            self._out["items"] = False
        if beside and self._hands_on and beside != ["allOf"]:
            return  # a referenced schema is closed in its own place
        named = facts.named(self._schema, alternatives=True)
        if not named.schemas or named.stated:
            return
        if beside:
            names = {**dict.fromkeys(named.schemas), **named.required}
            closing: dict[str, Any] = {"properties": dict.fromkeys(names, True), "additionalProperties": False}
            self._all.append(closing if named.typed else {"type": "object", **closing})
            return
        for name in self._out.get("required", ()):
            self._out["properties"].setdefault(name, True)
        self._out["additionalProperties"] = False

    def _limit_integers(self) -> None:
        """Give an integer the limits of RFC 8259: without any, a model that repeats itself writes digits for ever."""
        named = self._out.get("type")
        kinds = named if isinstance(named, list) else [named]
        if "integer" not in kinds or "number" in kinds or self._out.keys() & {"enum", "const", "multipleOf"}:
            return
        if not self._out.keys() & {"minimum", "exclusiveMinimum"}:
            self._out["minimum"] = -LARGEST_INTEGER
        if not self._out.keys() & {"maximum", "exclusiveMaximum"}:
            self._out["maximum"] = LARGEST_INTEGER

    # --- helpers ---

    def _sub(self, schema: Any, place: str, *, alone: bool) -> Any:
        return self._writer.form(schema, place, self._depth + 1, alone=alone)

    def _list(self, value: Any, place: str) -> list[Any]:
        if not isinstance(value, list) or not value:
            raise InvalidSchema("expected a list with at least one schema", place)
        return value

    def _drop(self, key: str) -> None:
        self._unsaid(key)
        del self._given[key]

    def _unsaid(self, key: str) -> None:
        self._writer.notes.add(key, self._place)


def _json(value: Any, place: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        raise InvalidSchema("it contains a value that is not valid JSON", place) from None
    except RecursionError:
        raise InvalidSchema("it is nested too deeply or too large", place) from None
