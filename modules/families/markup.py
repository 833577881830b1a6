"""Parses calls in XML-like forms: parameters by tag, alternating keys and values, and nested elements. Pure.

No XML parser is used: a parameter's content is not escaped, including `<` and `&`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modules.families.calls import (
    MOST,
    Named,
    ToolCall,
    Tools,
    argument_schema,
    argument_types,
    convert_argument,
    make_call,
    named_json,
    read_json,
    read_named,
    read_sequence,
    resolve_schema,
)

_FUNCTION = re.compile(r"\s*<function=([^<>\n]{1,256})>(.*?)</function>\s*", re.DOTALL)
_FUNCTION_END = re.compile(r"\s*<function=([^<>\n]{1,256})>(.*)\Z", re.DOTALL)
_BEGIN = re.compile(r"\s*<function=(?P<name>[^<>\n]{1,256})>\s*")
_ONE = re.compile(r"<parameter=[^<>\n]{1,256}>.*?</parameter>\s*", re.DOTALL)
_END = re.compile(r"\s*(?:</function>|\Z)\s*")
_JSON = named_json(re.compile(_BEGIN.pattern + r"(?=\{)"), _END)
_PARAMETER = re.compile(r"<parameter=([^<>\n]{1,256})>(.*?)(?:</parameter>|(?=<parameter=)|\Z)", re.DOTALL)
_INVOKE = re.compile(
    r"<(?P<p>[^\s<>/]{0,40}?)(?:invoke|function) name=\"(?P<name>[^\"\n]{1,256})\">(?P<body>.*?)"
    r"</(?P=p)(?:invoke|function)>",
    re.DOTALL,
)
_INVOKE_BEGIN = re.compile(r"\s*<(?P<p>[^\s<>/]{0,40}?)(?P<kind>invoke|function) name=\"(?P<name>[^\"\n]{1,256})\">")
_NAMED = re.compile(
    r"\s*<(?P<p>[^\s<>/]{0,40}?)param(?:eter)? name=\"(?P<key>[^\"\n]{1,256})\"(?P<more>[^>]{0,80})>(?P<value>.*?)"
    r"</(?P=p)param(?:eter)?>",
    re.DOTALL,
)
_KEYS = re.compile(
    r"<arg_key(?::\w+)?>(?P<key>.*?)</arg_key(?::\w+)?>\s*<arg_value(?::\w+)?>(?P<value>.*?)</arg_value(?::\w+)?>",
    re.DOTALL,
)


def read_function(inside: str, tools: Tools) -> list[ToolCall]:
    """`<function=NAME> <parameter=KEY> VALUE </parameter> </function>`, one or more times; or JSON in their place."""
    return read_sequence(inside, _next_function, lambda one: _function(one.name.strip(), one.body, tools))


def _next_function(text: str, at: int) -> Named | None:
    """The function that begins here: its JSON, its complete parameters, or its raw content."""
    if found := _JSON(text, at):
        return found
    begun = _BEGIN.match(text, at)
    if not begun:
        return None
    stop = begun.end()
    while one := _ONE.match(text, stop):
        stop = one.end()
    if ended := _END.match(text, stop):
        return Named(begun["name"], "", text[begun.end() : stop], ended.end())
    loose = _FUNCTION.match(text, at) or _FUNCTION_END.match(text, at)
    return Named(loose[1], "", loose[2], loose.end()) if loose else None


def _function(name: str, body: str, tools: Tools) -> list[ToolCall]:
    if body.lstrip().startswith("{"):
        return read_named(name, body, tools)
    if name not in tools:
        return []
    values = {key.strip(): convert_argument(_line(text), argument_schema(tools, name, key.strip())) for key, text in
              _PARAMETER.findall(body)}  # fmt: skip
    return [make_call(name, values)] if values or not body.strip() else []


def _line(text: str) -> str:
    """A value on lines of its own: the surrounding line breaks do not belong to it."""
    return text.removeprefix("\n").removesuffix("\n")


def read_invoke(inside: str, tools: Tools) -> list[ToolCall]:
    """`<invoke name="NAME"><parameter name="KEY">VALUE</parameter></invoke>`, each tag with any prefix."""
    return read_sequence(inside, _next_invoke, lambda one: _invoke(one.name, one.body, tools))


def _next_invoke(text: str, at: int) -> Named | None:
    """The element that begins here: its complete parameters, or its content up to its first end tag."""
    begun = _INVOKE_BEGIN.match(text, at)
    if not begun:
        return None
    stop = begun.end()
    while one := _NAMED.match(text, stop):
        stop = one.end()
    end = f"</{begun['p']}{begun['kind']}>"
    ended = re.compile(rf"\s*{re.escape(end)}\s*").match(text, stop)
    if ended:
        return Named(begun["name"], "", text[begun.end() : stop], ended.end())
    place = text.find(end, begun.end())
    return Named(begun["name"], "", text[begun.end() : place], place + len(end)) if place >= 0 else None


def _invoke(name: str, body: str, tools: Tools) -> list[ToolCall]:
    if name not in tools:
        return []
    values: dict[str, Any] = {}
    for given in _NAMED.finditer(body):
        text = _cdata(given["value"])
        plain = 'string="true"' in given["more"]
        values[given["key"]] = text if plain else convert_argument(text, argument_schema(tools, name, given["key"]))
    return [make_call(name, values)]


def _cdata(text: str) -> str:
    inner = text.strip()
    return inner[9:-3] if inner.startswith("<![CDATA[") and inner.endswith("]]>") else text


def read_keys(inside: str, tools: Tools) -> list[ToolCall]:
    """`NAME <arg_key>KEY</arg_key> <arg_value>VALUE</arg_value>`, with any number of keys."""
    name, mark, _ = inside.partition("<")
    name = name.strip()
    if name not in tools:
        return []
    rest = inside[inside.index("<") :] if mark else ""
    rest = re.sub(r"\A<tool_sep(?::\w+)?>", "", rest)
    values = {}
    for match in _KEYS.finditer(rest):
        key = match["key"].strip()
        values[key] = convert_argument(match["value"], argument_schema(tools, name, key))
    return [make_call(name, values)] if not _KEYS.sub("", rest).strip() else []


def read_any(inside: str, tools: Tools) -> list[ToolCall]:
    """What may be between `<tool_call>` and `</tool_call>`: JSON, parameters by tag, or keys and values."""
    start = inside.lstrip()[:1]
    if start in ("{", "["):
        return read_json(inside, tools)
    if start != "<":
        return read_keys(inside, tools)
    return read_function(inside, tools) or read_invoke(inside, tools)


def read_tags(inside: str, tools: Tools) -> list[ToolCall]:
    """`<invoke name="NAME"> <KEY>VALUE</KEY> </invoke>`: arguments as elements, nested for objects and lists (whose
    entries are `<item>`).
    """
    calls: list[ToolCall] = []
    for match in _INVOKE.finditer(inside):
        if match["name"] not in tools or len(calls) >= MOST:
            return []
        whole = tools[match["name"]]
        properties = resolve_schema(whole, whole).get("properties")
        value = _element(match["body"], {"type": "object", "properties": properties or {}}, whole, 0)
        calls.append(make_call(match["name"], value if isinstance(value, dict) else {}))
    return calls if not _INVOKE.sub("", inside).strip() else []


_TAG = re.compile(r"\s*<([^\s<>/]{1,256})>(.*?)</\1>\s*", re.DOTALL)
_DEEPEST = 32


def _element(text: str, schema: Any, whole: Mapping[str, Any], depth: int) -> Any:
    given = resolve_schema(schema, whole)
    given = given if isinstance(given, dict) else {}
    kinds = argument_types(given)
    if kinds and not kinds & {"object", "array"}:
        return convert_argument(text, given)
    found, at = [], 0
    while depth < _DEEPEST and (match := _TAG.match(text, at)):
        found.append((match[1], match[2]))
        at = match.end()
    if text[at:].strip() or (not found and text.strip()):
        return convert_argument(text, given)
    if not found:
        return {} if "object" in kinds else [] if "array" in kinds else convert_argument(text, given)
    if "array" in kinds or (not kinds and all(name == "item" for name, _ in found)):
        return [_element(body, given.get("items"), whole, depth + 1) for _, body in found]
    properties = given.get("properties") if isinstance(given.get("properties"), dict) else {}
    return {name: _element(body, (properties or {}).get(name), whole, depth + 1) for name, body in found}
