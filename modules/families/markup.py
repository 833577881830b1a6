"""Calls in forms that look like XML: parameters by tag, keys and values in turn, and nested ones. Pure.

No XML parser reads them: what stands in a parameter is written as it is, `<` and `&` too.
"""

from __future__ import annotations

import re
from typing import Any

from modules.families.calls import MOST, Call, Tools, made, read_json, read_named, read_row, schema_of, typed

_FUNCTION = re.compile(r"\s*<function=([^<>\n]{1,256})>(.*?)</function>\s*", re.DOTALL)
_FUNCTION_END = re.compile(r"\s*<function=([^<>\n]{1,256})>(.*)\Z", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^<>\n]{1,256})>(.*?)(?:</parameter>|(?=<parameter=)|\Z)", re.DOTALL)
_INVOKE = re.compile(
    r"<(?P<p>[^\s<>/]{0,40}?)(?:invoke|function) name=\"(?P<name>[^\"\n]{1,256})\">(?P<body>.*?)"
    r"</(?P=p)(?:invoke|function)>",
    re.DOTALL,
)
_NAMED = re.compile(
    r"<(?P<p>[^\s<>/]{0,40}?)param(?:eter)? name=\"(?P<key>[^\"\n]{1,256})\"(?P<more>[^>]{0,80})>(?P<value>.*?)"
    r"</(?P=p)param(?:eter)?>",
    re.DOTALL,
)
_KEYS = re.compile(
    r"<arg_key(?::\w+)?>(?P<key>.*?)</arg_key(?::\w+)?>\s*<arg_value(?::\w+)?>(?P<value>.*?)</arg_value(?::\w+)?>",
    re.DOTALL,
)


def read_function(inside: str, tools: Tools) -> list[Call]:
    """`<function=NAME> <parameter=KEY> VALUE </parameter> </function>`, once or more; or JSON in their place."""
    return read_row(
        inside,
        lambda text, at: _FUNCTION.match(text, at) or _FUNCTION_END.match(text, at),
        lambda one: _function(one[1].strip(), one[2], tools),
    )


def _function(name: str, body: str, tools: Tools) -> list[Call]:
    if body.lstrip().startswith("{"):
        return read_named(name, body, tools)
    if name not in tools:
        return []
    values = {key.strip(): typed(_line(text), schema_of(tools, name, key.strip())) for key, text in
              _PARAMETER.findall(body)}  # fmt: skip
    return [made(name, values)] if values or not body.strip() else []


def _line(text: str) -> str:
    """A value that stands on lines of its own: the line ends around it are not its own."""
    return text.removeprefix("\n").removesuffix("\n")


def read_invoke(inside: str, tools: Tools) -> list[Call]:
    """`<invoke name="NAME"><parameter name="KEY">VALUE</parameter></invoke>`, each tag with any prefix."""
    calls: list[Call] = []
    for match in _INVOKE.finditer(inside):
        name = match["name"]
        if name not in tools or len(calls) >= MOST:
            return []
        values: dict[str, Any] = {}
        for given in _NAMED.finditer(match["body"]):
            text = _cdata(given["value"])
            plain = 'string="true"' in given["more"]
            values[given["key"]] = text if plain else typed(text, schema_of(tools, name, given["key"]))
        calls.append(made(name, values))
    return calls if not _INVOKE.sub("", inside).strip() else []


def _cdata(text: str) -> str:
    inner = text.strip()
    return inner[9:-3] if inner.startswith("<![CDATA[") and inner.endswith("]]>") else text


def read_keys(inside: str, tools: Tools) -> list[Call]:
    """`NAME <arg_key>KEY</arg_key> <arg_value>VALUE</arg_value>`, the keys as many as there are."""
    name, mark, _ = inside.partition("<")
    name = name.strip()
    if name not in tools:
        return []
    rest = inside[inside.index("<") :] if mark else ""
    rest = re.sub(r"\A<tool_sep(?::\w+)?>", "", rest)
    values = {}
    for match in _KEYS.finditer(rest):
        key = match["key"].strip()
        values[key] = typed(match["value"], schema_of(tools, name, key))
    return [made(name, values)] if not _KEYS.sub("", rest).strip() else []


def read_any(inside: str, tools: Tools) -> list[Call]:
    """What may stand between `<tool_call>` and `</tool_call>`: JSON, parameters by tag, or keys and values."""
    start = inside.lstrip()[:1]
    if start in ("{", "["):
        return read_json(inside, tools)
    if start != "<":
        return read_keys(inside, tools)
    return read_function(inside, tools) or read_invoke(inside, tools)


def read_tags(inside: str, tools: Tools) -> list[Call]:
    """`<invoke name="NAME"> <KEY>VALUE</KEY> </invoke>`: arguments as elements, within one another where they are
    objects or lists (whose entries are `<item>`).
    """
    calls: list[Call] = []
    for match in _INVOKE.finditer(inside):
        if match["name"] not in tools or len(calls) >= MOST:
            return []
        properties = tools[match["name"]].get("properties")
        value = _element(match["body"], {"type": "object", "properties": properties or {}}, 0)
        calls.append(made(match["name"], value if isinstance(value, dict) else {}))
    return calls if not _INVOKE.sub("", inside).strip() else []


_TAG = re.compile(r"\s*<([^\s<>/]{1,256})>(.*?)</\1>\s*", re.DOTALL)
_DEEPEST = 32


def _element(text: str, schema: Any, depth: int) -> Any:
    found, at = [], 0
    while depth < _DEEPEST and (match := _TAG.match(text, at)):
        found.append((match[1], match[2]))
        at = match.end()
    given = schema if isinstance(schema, dict) else {}
    if not found or text[at:].strip():
        return typed(text, schema)
    if given.get("type") == "array" or all(name == "item" for name, _ in found):
        return [_element(body, given.get("items"), depth + 1) for _, body in found]
    properties = given.get("properties") if isinstance(given.get("properties"), dict) else {}
    return {name: _element(body, (properties or {}).get(name), depth + 1) for name, body in found}
