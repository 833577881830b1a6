"""A tool call, and the readers for calls in JSON, which most families write.

A reader gets the text between a call's marks and the available tools, and returns the calls; none if the text is not a
valid call. Other formats are read in `markup`, `python_calls` or the family's own file. Pure.
"""

from __future__ import annotations

import ast
import json
import math
import re
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote

#: The available tools: a name, and the JSON schema of its arguments.
Tools = Mapping[str, Mapping[str, Any]]
#: Returns the calls in the text between the marks; none if it cannot be parsed or names unknown tools.
Read = Callable[[str, Tools], "list[ToolCall]"]

#: Limits for one reply's calls and one call's characters; anything beyond is not a call.
MOST, LONGEST = 256, 4_000_000


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool; `arguments` is JSON text. The id is the model's own if it writes one."""

    name: str
    arguments: str
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}")


def make_call(name: str, values: Mapping[str, Any], id: str = "") -> ToolCall:
    """A call with these arguments."""
    # ASCII: a model may write a lone surrogate as an escape, which UTF-8 cannot encode
    try:
        text = json.dumps(values, allow_nan=False)
    except ValueError:  # 1e999, which Python reads as infinite and JSON cannot express
        text = json.dumps(_finite(values))
    return ToolCall(name, text, id) if id else ToolCall(name, text)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else math.copysign(sys.float_info.max, value)
    return value


def read_json(inside: str, tools: Tools) -> list[ToolCall]:
    """An object, a list of them, or several in a row, in any of the spellings of `_call`."""
    values = _values(inside)
    calls = [_call(each, tools) for value in values or () for each in (value if isinstance(value, list) else [value])]
    return [call for call in calls if call] if calls and all(calls) and len(calls) <= MOST else []


def read_bare(inside: str, tools: Tools) -> list[ToolCall]:
    """As `read_json` for text without a call mark: an object with a name may also be the reply itself."""
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
    """The JSON values that a text consists of; None if it contains anything else."""
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


def _call(value: Any, tools: Tools) -> ToolCall | None:
    """One call in any of its spellings: by `name` (Hermes, Llama), `tool_name` (Cohere), in `function` (OpenAI), or as
    the only key of an object (Apertus).
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
        return ToolCall(name, given) if parse_object(given) is not None else None
    return make_call(name, given or {}) if given is None or isinstance(given, dict) else None


def parse_object(text: str) -> dict[str, Any] | None:
    """The object in a JSON text; an empty text is an object without keys."""
    if not text.strip():
        return {}
    try:
        value = json.loads(text, strict=False)  # models write line breaks into strings unescaped
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_named(name: str, inside: str, tools: Tools, id: str = "") -> list[ToolCall]:
    """A call whose name is known, with its arguments as JSON."""
    name = name.strip().removeprefix("functions.")
    values = parse_object(inside)
    return [make_call(name, values, id)] if name in tools and values is not None else []


class CallMatch(Protocol):
    """Something found in a text and where it ends, such as a regular expression's match."""

    def end(self) -> int: ...


F = TypeVar("F", bound=CallMatch)


def read_sequence(
    inside: str, match: Callable[[str, int], F | None], read: Callable[[F], list[ToolCall]]
) -> list[ToolCall]:
    """Consecutive calls: `match` finds the next one at a position, `read` parses it; none if one is invalid."""
    calls: list[ToolCall] = []
    at = 0
    while at < len(inside.rstrip()) and len(calls) < MOST:
        one = match(inside, at)
        found = read(one) if one else []
        if not one or not found:
            return []
        calls += found
        at = one.end()
    return calls


_LENIENT = json.JSONDecoder(strict=False)  # models write line breaks into strings unescaped


@dataclass(frozen=True)
class Named:
    """A call's name and id, its arguments as JSON text, and where it ends."""

    name: str
    id: str
    body: str
    stop: int

    def end(self) -> int:
        return self.stop


def named_json(begin: re.Pattern[str], end: re.Pattern[str]) -> Callable[[str, int], Named | None]:
    """A finder for calls that begin with one pattern (with `name`, and `id` if there is one), contain JSON arguments,
    and end with another pattern. The arguments end where their JSON does, whatever their strings contain.
    """

    def match(inside: str, at: int) -> Named | None:
        begun = begin.match(inside, at)
        if not begun:
            return None
        start = stop = begun.end()
        if inside.startswith("{", start):
            try:
                _, stop = _LENIENT.raw_decode(inside, start)
            except (ValueError, RecursionError):
                return None
        ended = end.match(inside, stop)
        id = begun.groupdict().get("id") or ""
        return Named(begun["name"], id, inside[start:stop], ended.end()) if ended else None

    return match


def read_named_row(inside: str, match: Callable[[str, int], Named | None], tools: Tools) -> list[ToolCall]:
    """One or more such calls."""
    return read_sequence(inside, match, lambda one: read_named(one.name, one.body, tools, one.id))


def convert_argument(text: str, schema: Any) -> Any:
    """The value of an argument that is written without quotes: by its schema, and if that does not say, as JSON."""
    wanted = argument_types(schema)
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


def argument_types(schema: Any) -> set[str]:
    """The types that a schema allows, as far as it says at its top level; none if it does not."""
    if not isinstance(schema, Mapping):
        return set()
    kinds = schema.get("type")
    found = {kinds} if isinstance(kinds, str) else {each for each in kinds or () if isinstance(each, str)}
    for key in ("anyOf", "oneOf"):
        options = schema.get(key)
        for each in options if isinstance(options, list) else ():
            found |= argument_types(each)
    for each in schema["allOf"] if isinstance(schema.get("allOf"), list) else ():
        found = found & argument_types(each) if found and argument_types(each) else found | argument_types(each)
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if not found and isinstance(values, list):
        found = {_NAMES.get(type(each), "") for each in values}
    if found and schema.get("nullable") is True:
        found |= {"null"}
    return found | ({"integer"} if "number" in found else set())


_LITERAL = re.compile(r"[-+]?[\d.]|[\[{(]|(?:True|False|None)$")


def _python(text: str) -> Any:
    """A Python literal: templates that print a dict teach models to write one."""
    if len(text) > 20_000 or not _LITERAL.match(text.strip()):
        return _NOTHING
    try:
        value = ast.literal_eval(text.strip())
        json.dumps(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return _NOTHING
    return value


def argument_schema(tools: Tools, name: str, key: str) -> Any:
    """The schema of one argument of a tool, with references resolved; None if it has none."""
    whole = tools.get(name, {})
    properties = resolve_schema(whole, whole).get("properties")
    return resolve_schema(properties.get(key), whole) if isinstance(properties, Mapping) else None


_DEEPEST = 6  # levels of references and alternatives in which a type is looked for


def resolve_schema(schema: Any, whole: Mapping[str, Any], depth: int = 0) -> Any:
    """A schema with its references within `whole` replaced, as deep as its type needs."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return schema
    made = dict(schema)
    if isinstance(made.get("$ref"), str):
        target = _at(whole, made.pop("$ref"))
        made = {**(resolve_schema(target, whole, depth + 1) if isinstance(target, Mapping) else {}), **made}
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(made.get(key), list):
            made[key] = [resolve_schema(each, whole, depth + 1) for each in made[key][:100]]
    return made


def _at(whole: Any, reference: str) -> Any:
    """The value at a path such as `#/$defs/Colour`; None if it does not exist."""
    found = whole
    for part in unquote(reference.partition("#")[2]).split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        elif isinstance(found, Mapping):
            found = found.get(key)
        else:
            return None
    return found
