"""A reply that must be a call of a tool: the grammar that binds it, in the family's own form of calls.

It must not know of HTTP or of engines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from errors import InvalidInput
from modules.families.family import Family
from modules.families.reading import Reading
from modules.prompts.json_grammar import json_grammar, literal

Tools = Sequence[Mapping[str, Any]]


def forced(choice: Any, tools: Tools, reading: Reading, notes: list[str], *, known: bool = True) -> str:
    """The grammar by which the reply is a call, where the client wants one; nothing where it is free.

    `known`: the template itself tells the model of tools, so that the form is its family's. A thought that the prompt
    has opened is closed first. Raises: InvalidInput.
    """
    function = choice.get("function", choice) if isinstance(choice, Mapping) else None
    named = function.get("name") if isinstance(function, Mapping) else None
    if choice in (None, "auto", "none"):
        return ""
    if choice not in ("required", "any") and not isinstance(named, str):
        raise InvalidInput(
            'tool_choice is "auto", "none", "required" or {"type": "function", "function": {"name": ...}}.'
        )
    wanted = [tool["function"] for tool in tools if named is None or tool["function"]["name"] == named]
    if not wanted:
        raise InvalidInput(f"tool_choice wants a call, and there is no tool{f' {ascii(named)[:60]}' if named else ''}.")
    before, after = _form(reading.family, known=known)
    opened = reading.opened
    closed = reading.family.closes(opened) if opened and reading.thinking() else ""
    ways = []
    for each in wanted:
        grammar, unsaid = json_grammar(each.get("parameters") or {"type": "object"})
        notes += [note for note in unsaid if note not in notes]
        arguments = grammar.removeprefix("root ::= ").strip()
        ways.append(f"{literal(closed + before.replace('NAME', each['name']))} {arguments} {literal(after)}")
    return "root ::= " + " | ".join(ways) + "\n"


def _form(family: Family, *, known: bool) -> tuple[str, str]:
    """What stands around a call's arguments."""
    told = ('<tool_call>\n{"name": "NAME", "arguments": ', "}\n</tool_call>")
    return (family.forced or told) if known else told
