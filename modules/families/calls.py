"""A call of a tool, and the readers that find it in JSON: what most families write.

A reader takes what stands between a call's marks and the tools that there are, and gives the calls; none where the
text is no call of theirs. What a family writes in other ways is read in `markup`, `python` or its own file. Pure.
"""

from __future__ import annotations

import ast
import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

#: The tools that may be called: a name, and the JSON schema of its arguments.
Tools = Mapping[str, Mapping[str, Any]]
#: Calls out of what stands between the marks; none where it cannot be read, or calls what is not there.
Read = Callable[[str, Tools], "list[Call]"]

#: Calls in one reply, and characters of one: more is no call.
MOST, LONGEST = 256, 4_000_000


@dataclass(frozen=True)
class Call:
    """One call of a tool; `arguments` is JSON text. The id is the model's own where it writes one."""

    name: str
    arguments: str
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}")


def made(name: str, values: Mapping[str, Any], id: str = "") -> Call:
    """A call with these arguments."""
    # ASCII: a model may write half a character as an escape, which no UTF-8 could hold
    return Call(name, json.dumps(values), id) if id else Call(name, json.dumps(values))


def read_json(inside: str, tools: Tools) -> list[Call]:
    """An object, a list of them, or several in a row; in any of the spellings of `_call`."""
    values = _values(inside)
    calls = [_call(each, tools) for value in values or () for each in (value if isinstance(value, list) else [value])]
    return [call for call in calls if call] if calls and all(calls) and len(calls) <= MOST else []


def read_bare(inside: str, tools: Tools) -> list[Call]:
    """As `read_json` where no mark says that it is a call: an object with a name may be the reply itself."""
    values = _values(inside) or []
    flat = [each for value in values for each in (value if isinstance(value, list) else [value])]
    if not all(isinstance(each, dict) and set(each) - {"type", "id"} in _BARE for each in flat):
        return []
    return read_json(inside, tools)


_BARE: Sequence[set[str]] = (
    {"name", "arguments"},
    {"name", "parameters"},
    {"function"},
    {"tool_name", "parameters"},
    {"function", "parameters"},
)


def _values(text: str) -> list[Any] | None:
    """The JSON values that a text consists of; None where there is anything else in it."""
    decoder, found, at = json.JSONDecoder(), [], 0
    text = text.strip()
    if len(text) > LONGEST:
        return None
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return None
        found.append(value)
        while at < len(text) and text[at] in " \r\n\t,;":
            at += 1
    return found


def _call(value: Any, tools: Tools) -> Call | None:
    """One call in any of its spellings: by `name` (Hermes, Llama), `tool_name` (Cohere), in `function` (OpenAI), or
    as the one key of an object (Apertus).
    """
    if not isinstance(value, dict):
        return None
    inner = value.get("function")
    if isinstance(inner, dict):
        value = {"id": value.get("id"), **inner}
    elif isinstance(inner, str) and "name" not in value:
        value = {**value, "name": inner}
    name = value.get("name", value.get("tool_name"))
    if name is None and len(value) == 1:
        name, given = next(iter(value.items()))
    else:
        given = next((value[key] for key in ("arguments", "parameters", "args") if key in value), {})
    if not isinstance(name, str) or name.removeprefix("functions.") not in tools:
        return None
    name = name if name in tools else name.removeprefix("functions.")
    if isinstance(given, str):
        return Call(name, given) if object_in(given) is not None else None
    return made(name, given or {}) if given is None or isinstance(given, dict) else None


def object_in(text: str) -> dict[str, Any] | None:
    """The object that a JSON text is; an empty text is one without keys."""
    if not text.strip():
        return {}
    try:
        value = json.loads(text, strict=False)  # models write line ends into strings as they are
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_named(name: str, inside: str, tools: Tools, id: str = "") -> list[Call]:
    """A call whose name is known, with its arguments as JSON."""
    name = name.strip().removeprefix("functions.")
    values = object_in(inside)
    return [made(name, values, id)] if name in tools and values is not None else []


class Found(Protocol):
    """Something that was found in a text, and where it ends: a regular expression's match, for one."""

    def end(self) -> int: ...


F = TypeVar("F", bound=Found)


def read_row(inside: str, match: Callable[[str, int], F | None], read: Callable[[F], list[Call]]) -> list[Call]:
    """Calls one after the other: `match` finds the next one at a place, `read` gives it; none where one is no call."""
    calls: list[Call] = []
    at = 0
    while at < len(inside.rstrip()) and len(calls) < MOST:
        one = match(inside, at)
        found = read(one) if one else []
        if not one or not found:
            return []
        calls += found
        at = one.end()
    return calls


def typed(text: str, schema: Any) -> Any:
    """What an argument that is written without quotes means: by its schema, and where that is silent as JSON."""
    wanted = _types(schema)
    if wanted and wanted <= {"string"}:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _python(text)
    if value is _NOTHING or ("string" in wanted and _NAMES.get(type(value)) not in wanted):
        return text
    return value


_NOTHING = object()
_NAMES: Mapping[type, str] = {
    dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number",
    type(None): "null",
}  # fmt: skip


def _types(schema: Any) -> set[str]:
    """The types that a schema allows, as far as it says so at its top."""
    if not isinstance(schema, Mapping):
        return set()
    kinds = schema.get("type")
    found = {kinds} if isinstance(kinds, str) else {each for each in kinds or () if isinstance(each, str)}
    for key in ("anyOf", "oneOf"):
        options = schema.get(key)
        for each in options if isinstance(options, list) else ():
            found |= _types(each)
    if not found and isinstance(schema.get("enum"), list):
        found = {_NAMES.get(type(each), "") for each in schema["enum"]}
    return found | ({"integer"} if "number" in found else set())


_LITERAL = re.compile(r"[-+]?[\d.]|[\[{(]|(?:True|False|None)$")


def _python(text: str) -> Any:
    """A Python literal: templates that write a dict as it is teach models to do so."""
    if len(text) > 20_000 or not _LITERAL.match(text.strip()):
        return _NOTHING
    try:
        value = ast.literal_eval(text.strip())
        json.dumps(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return _NOTHING
    return value


def schema_of(tools: Tools, name: str, key: str) -> Any:
    """The schema of one argument of a tool; None where it has none."""
    properties = tools.get(name, {}).get("properties")
    return properties.get(key) if isinstance(properties, Mapping) else None
