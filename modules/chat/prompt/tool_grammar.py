"""The grammar for a reply that must be a tool call, in the family's own form of calls.

It must not know of HTTP or engines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from errors import InvalidInput
from modules.chat.prompt.call_grammar import call_grammar
from modules.families.reply_format import ReplyFormat
from modules.prompts.json_schema.grammar import gbnf_literal

Tools = Sequence[Mapping[str, Any]]


def tool_call_grammar(choice: Any, tools: Tools, reading: ReplyFormat, notes: list[str], template: str = "") -> str:
    """The grammar that makes the reply a tool call, if the client requires one; none if it is free.

    If the `template` itself supports tools, the form is its family's. Reasoning that the prompt has opened is closed
    first. Raises: InvalidInput.
    """
    function = choice.get("function", choice) if isinstance(choice, Mapping) else None
    named = function.get("name") if isinstance(function, Mapping) else None
    if choice in (None, "auto", "none"):
        return ""
    if choice not in ("required", "any") and not isinstance(named, str):
        raise InvalidInput(
            'tool_choice must be "auto", "none", "required" or {"type": "function", "function": {"name": ...}}.'
        )
    wanted = [tool["function"] for tool in tools if named is None or tool["function"]["name"] == named]
    if not wanted:
        raise InvalidInput(
            f"tool_choice requires a tool, but {f'none named {ascii(named)[:60]}' if named else 'none'} was sent."
        )
    form = reading.family.form_for(template)
    opened = reading.opened
    closed = gbnf_literal(reading.family.closes_for_call(opened)) if opened and reading.thinking() else ""
    rules: dict[str, str] = {}
    ways = [
        f"{closed} {call_grammar(each['name'], each.get('parameters') or {'type': 'object'}, form, rules, notes)}"
        for each in wanted
    ]
    lines = [f"{name} ::= {rule}\n" for name, rule in rules.items()]
    return "root ::= " + " | ".join(way.strip() for way in ways) + "\n" + "".join(lines)
