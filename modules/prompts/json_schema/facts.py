"""Facts about JSON schemas that need no grammar: which properties one names, whether two exclude each other.

The answers are certain; if unsure, they are conservative. It must not know of grammars.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

TYPES = ("string", "integer", "number", "boolean", "null", "object", "array")
_ALL = frozenset(TYPES)
#: Keywords that allow a value of another type than an object.
_NOT_OBJECTS = frozenset(
    ["type", "enum", "const", "anyOf", "oneOf", "items", "prefixItems", "minItems", "maxItems", "pattern", "minLength",
     "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "nullable"]
)  # fmt: skip
_DEEPEST = 12
_MOST_PARTS = 2000
#: Keywords for further properties: a schema that has one of these considers them.
_FURTHER = ("additionalProperties", "patternProperties", "unevaluatedProperties", "propertyNames")

#: From the schema that contains a `$ref` to the referenced schema.
Follow = Callable[[Mapping[str, Any]], Any]


@dataclass
class NamedProperties:
    """The properties of an object, with all schemas given for each, and the required ones.

    `stated`: the schema itself says which other properties are allowed; `typed`: the types of its values.
    """

    schemas: dict[str, list[Any]] = field(default_factory=dict)
    required: dict[str, None] = field(default_factory=dict)
    stated: bool = False
    typed: bool = False


class SchemaFacts:
    """Answers about the schemas of one document."""

    def __init__(self, follow: Follow) -> None:
        self._follow = follow

    def named(self, schema: Any, *, alternatives: bool) -> NamedProperties:
        """What a schema and everything combined with it (allOf, $ref; optionally anyOf and oneOf) say about
        properties.
        """
        found = NamedProperties()
        keys = ("allOf", "anyOf", "oneOf") if alternatives else ("allOf",)
        for part in self._parts(schema, keys):
            properties = part.get("properties")
            for name, value in properties.items() if isinstance(properties, Mapping) else ():
                found.schemas.setdefault(name, []).append(value)
            required = part.get("required")
            found.required.update(dict.fromkeys(map(str, required if isinstance(required, list) else ())))
            found.stated |= any(key in part for key in _FURTHER)
            found.typed |= any(key in part for key in ("type", "enum", "const"))
        return found

    def _parts(self, schema: Any, keys: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
        todo: list[Any] = [schema]
        seen: set[int] = set()
        while todo and len(seen) < _MOST_PARTS:
            part = todo.pop()
            if not isinstance(part, Mapping) or id(part) in seen:
                continue
            seen.add(id(part))
            yield part
            inner = [each for key in keys if isinstance(part.get(key), list) for each in part[key]]
            todo += reversed([*([self._follow(part)] if "$ref" in part else []), *inner])

    def exclude(self, one: Any, other: Any, *, closed: bool, depth: int = 0) -> bool:
        """Whether certainly no value fits both. `closed`: objects have no properties but the named ones."""
        if depth > _DEEPEST:
            return False
        kinds = self._kinds(one, 0) & self._kinds(other, 0)
        if closed and "object" in kinds and self._meant_for_objects(one) and self._meant_for_objects(other):
            kinds = frozenset(["object"])
        if not kinds:
            return True
        values, others = self._values(one), self._values(other)
        if values is not None and others is not None:
            return not {_canonical(each) for each in values} & {_canonical(each) for each in others}
        return kinds == {"object"} and self._objects_exclude(one, other, closed, depth)

    def _meant_for_objects(self, schema: Any) -> bool:
        """Whether it has no type, and only keywords for objects."""
        parts = list(self._parts(schema, ("allOf",)))
        return any("properties" in part for part in parts) and not any(part.keys() & _NOT_OBJECTS for part in parts)

    def _objects_exclude(self, one: Any, other: Any, closed: bool, depth: int) -> bool:
        first, second = self.named(one, alternatives=False), self.named(other, alternatives=False)
        for name in {**first.required, **second.required}:
            for mine in first.schemas.get(name, ()):
                for theirs in second.schemas.get(name, ()):
                    if self.exclude(mine, theirs, closed=closed, depth=depth + 1):
                        return True
        if not closed:
            return False
        return all(
            set(need.required) - set(have.schemas) - set(have.required)
            and have.schemas
            and not have.stated
            and not any(key in part for part in self._parts(schema, ("allOf",)) for key in ("anyOf", "oneOf"))
            for have, need, schema in ((first, second, one), (second, first, other))
        )

    def _values(self, schema: Any) -> list[Any] | None:
        """The only allowed values; None if they are not listed."""
        for part in self._parts(schema, ("allOf",)):
            if "const" in part:
                return [part["const"]]
            if isinstance(part.get("enum"), list):
                return list(part["enum"])
        return None

    def _kinds(self, schema: Any, depth: int) -> frozenset[str]:
        """The types that its values may have."""
        if schema is False:
            return frozenset()
        kinds = _ALL
        for part in self._parts(schema, ("allOf",)):
            if "type" in part:
                named = part["type"] if isinstance(part["type"], list) else [part["type"]]
                kinds &= frozenset(map(str, named)) | ({"integer"} if "number" in named else frozenset())
            listed = [part["const"]] if "const" in part else part.get("enum")
            if isinstance(listed, list):
                kinds &= frozenset(kind for each in listed for kind in _kinds_of(each))
            for key in ("anyOf", "oneOf"):
                if isinstance(part.get(key), list) and depth < _DEEPEST and len(part[key]) < 100:
                    kinds &= frozenset(kind for each in part[key] for kind in self._kinds(each, depth + 1))
            if part.get("nullable") is True:
                kinds |= {"null"}
        return kinds


def _kinds_of(value: Any) -> tuple[str, ...]:
    for kind, name in ((bool, "boolean"), (str, "string"), (Mapping, "object"), (list, "array")):
        if isinstance(value, kind):
            return (name,)
    if value is None:
        return ("null",)
    whole = isinstance(value, int) or float(value).is_integer()
    return ("integer", "number") if whole else ("number",)


def _canonical(value: Any) -> str:
    """The same text for values that are equal in JSON schema."""

    def plain(value: Any) -> Any:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, Mapping):
            return {key: plain(each) for key, each in value.items()}
        return [plain(each) for each in value] if isinstance(value, list) else value

    return json.dumps(plain(value), sort_keys=True)
