"""Resolves a JSON schema's references to parts of the same document.

By path (`#/$defs/a`, percent-encoded or not, also through lists), by anchor, or by the `$id` of a part. Nothing is
downloaded. It must not know what a schema's other keywords mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urljoin

from errors import InvalidSchema

#: Where there are no schemas, only values that may look like schemas.
_VALUES = frozenset(["enum", "const", "default", "examples", "example"])
_LONGEST = 100  # references in a row that lead only to another reference


class SchemaReferences:
    """The references of one document, which is read once, here."""

    def __init__(self, whole: Any, *, old: bool) -> None:
        """`old`: its draft ignores everything next to `$ref`."""
        self._whole = whole
        self._old = old
        self._bases: dict[int, str] = {}  # of each part, by its identity: the base address of its references
        self._resources: dict[str, Any] = {"": whole}
        self._anchors: dict[tuple[str, str], Any] = {}
        self._dynamic: dict[str, list[Any]] = {}
        self._read()

    def target(self, reference: Any, origin: Any, place: str) -> Any:
        """The schema that a reference in the schema `origin` finally leads to.

        Raises: InvalidSchema, with the path.
        """
        for _ in range(_LONGEST):
            schema = self._found(reference, origin, place)
            if not isinstance(schema, Mapping) or set(schema) != {"$ref"}:
                return schema
            reference, origin = schema["$ref"], schema
        raise InvalidSchema("its references are circular", place)

    def dynamic(self, reference: Any) -> Any:
        """The target of `$dynamicRef` if it does not depend on the path to it; else None."""
        found = self._dynamic.get(str(reference).removeprefix("#"), [])
        return found[0] if len(found) == 1 and len(self._resources) <= 2 else None

    def _found(self, reference: Any, origin: Any, place: str) -> Any:
        if not isinstance(reference, str):
            raise InvalidSchema("$ref must be a string", place)
        address, _, fragment = reference.partition("#")
        base = self._bases.get(id(origin), "")
        address = _join(base, address) if address else base
        if address not in self._resources:
            raise InvalidSchema("only references within the schema (#/...) are supported", place)
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            if (address, fragment) not in self._anchors:
                raise InvalidSchema(f"there is no anchor named {fragment[:80]}", place)
            return self._anchors[address, fragment]
        schema = self._resources[address]
        for part in fragment.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(schema, Mapping) and key in schema:
                schema = schema[key]
            elif isinstance(schema, list) and key.isdecimal() and int(key) < len(schema):
                schema = schema[int(key)]
            else:
                raise InvalidSchema(f"{reference[:80]} does not exist", place)
        return schema

    def _read(self) -> None:
        todo: list[tuple[Any, str]] = [(self._whole, "")]
        while todo:
            part, base = todo.pop()
            if isinstance(part, list):
                todo += [(each, base) for each in part if isinstance(each, Mapping | list)]
            elif isinstance(part, Mapping):
                base = self._named(part, base)
                self._bases[id(part)] = base
                todo += [
                    (each, base)
                    for key, each in part.items()
                    if isinstance(each, Mapping | list) and key not in _VALUES
                ]

    def _named(self, part: Mapping[str, Any], base: str) -> str:
        """Store a part under its names. Returns the base address inside it."""
        if self._old and "$ref" in part:
            return base
        name = part.get("$id", part.get("id") if part is self._whole else None)
        if isinstance(name, str) and name.startswith("#"):  # how drafts 4 to 7 write anchors
            self._anchors[base, name[1:]] = part
        elif isinstance(name, str):
            base = _join(base, name.partition("#")[0])
            self._resources.setdefault(base, part)
        for key in ("$anchor", "$dynamicAnchor"):
            if isinstance(part.get(key), str):
                self._anchors.setdefault((base, part[key]), part)
        if isinstance(part.get("$dynamicAnchor"), str):
            self._dynamic.setdefault(part["$dynamicAnchor"], []).append(part)
        return base


def _join(base: str, address: str) -> str:
    try:
        return urljoin(base, address)
    except ValueError:  # not an address
        return address
