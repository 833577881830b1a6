"""Parses calls that look like Python: `[get_weather(city="Oslo", days=3)]`, or one call per line. Pure; nothing is
run.
"""

from __future__ import annotations

import ast
import json
from typing import Any

from modules.families.calls import MOST, ToolCall, Tools, make_call

_LONGEST = 100_000  # characters: Python's own parser reads them
_WORDS = {"true": True, "false": False, "null": None}


def read_python(inside: str, tools: Tools) -> list[ToolCall]:
    """Calls with literal arguments, by name or in the order of the tool's schema."""
    text = inside.strip()
    if not text or len(text) > _LONGEST:
        return []
    try:
        tree = _parsed(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError, SystemError):
        return []
    nodes: list[ast.expr] = []
    for statement in tree.body:
        if not isinstance(statement, ast.Expr):
            return []
        value = statement.value
        nodes += value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
    if not nodes or len(nodes) > MOST:
        return []
    calls = [_call(node, tools) for node in nodes]
    return [call for call in calls if call] if all(calls) else []


def _parsed(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except SystemError:  # CPython 3.11 counts the depth of a tree for all threads: another one parsed at the same time
        return ast.parse(text)


def _call(node: ast.expr, tools: Tools) -> ToolCall | None:
    if not isinstance(node, ast.Call):
        return None
    name = ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else ""
    name = name if name in tools else name.removesuffix(".call").removeprefix("functions.")
    if name not in tools or any(each.arg is None for each in node.keywords):
        return None
    properties = tools[name].get("properties")
    order = list(properties) if isinstance(properties, dict) else []
    if len(node.args) > len(order):
        return None
    try:
        values = {key: _value(each) for key, each in zip(order, node.args, strict=False)}
        values.update({str(each.arg): _value(each.value) for each in node.keywords})
        json.dumps(values)
    except (ValueError, TypeError, RecursionError):
        return None
    return make_call(name, values)


def _value(node: ast.expr) -> Any:
    """A literal; JSON's constants are accepted, too. Raises: ValueError."""
    match node:
        case ast.Name(id=name) if name in _WORDS:
            return _WORDS[name]
        case ast.List(elts=entries) | ast.Tuple(elts=entries) | ast.Set(elts=entries):
            return [_value(each) for each in entries]
        case ast.Dict(keys=keys, values=values):
            return {str(_value(key)): _value(each) for key, each in zip(keys, values, strict=True) if key}
    return ast.literal_eval(node)
