"""The saved form of tool calls and their results in a reply: JSON between marks on lines of their own.

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Oslo"}, "id": "c1"}
    </tool_call>
    <tool_response>
    {"name": "get_weather", "content": "5 degrees", "id": "c1"}
    </tool_response>

So the original's rows stay text that a person can read. A mark in code, or around anything else, is text. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loaders import safe_json
from modules.families.code_tracker import CodeTracker
from modules.families.family import Kind
from modules.families.saved_reply import split_reply, to_template_message

_BLOCK = re.compile(
    r"^<(?P<mark>tool_call|tool_response)>\n(?P<inside>\{[^\n]*\})\n</(?P=mark)>(?:\n+|\Z)", re.MULTILINE
)


@dataclass(frozen=True)
class SavedPart:
    """A part of an answer: text, a call (`value`: name, arguments, id) or a result (name, content, id)."""

    kind: Kind
    text: str = ""
    value: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """The tool's name."""
        return str((self.value or {}).get("name", ""))


def format_call(name: str, arguments: Any, id: str = "") -> str:
    """A call in its saved form."""
    return _block("tool_call", {"name": name, "arguments": arguments, **({"id": id} if id else {})})


def format_result(name: str, content: str, id: str = "") -> str:
    """A result in its saved form."""
    return _block("tool_response", {"name": name, "content": content, **({"id": id} if id else {})})


def _block(mark: str, value: dict[str, Any]) -> str:
    return f"<{mark}>\n{json.dumps(value, ensure_ascii=False)}\n</{mark}>"


def parse_saved_parts(answer: str) -> list[SavedPart]:
    """The parts of an answer, in order; texts are unchanged except for the line breaks around a call."""
    if "<tool_" not in answer:
        return [SavedPart("text", answer)] if answer else []
    parts: list[SavedPart] = []
    place, begun, looked = CodeTracker(), 0, 0
    for match in _BLOCK.finditer(answer):
        place.push(answer[looked : match.start()])
        looked = match.start()
        value = _value(match["inside"], match["mark"])
        if value is None or place.in_code():
            continue
        if text := answer[begun : match.start()].rstrip("\n"):
            parts.append(SavedPart("text", text))
        parts.append(SavedPart("call" if match["mark"] == "tool_call" else "result", value=value))
        begun = match.end()
    if rest := answer[begun:]:
        parts.append(SavedPart("text", rest))
    return parts


def _value(inside: str, mark: str) -> dict[str, Any] | None:
    try:
        value = safe_json.loads(inside)
    except ValueError:
        return None
    wanted = ("name", "arguments") if mark == "tool_call" else ("name", "content")
    named = isinstance(value, dict) and isinstance(value.get("name"), str)
    return value if named and all(key in value for key in wanted) else None


def join_saved_parts(parts: Sequence[SavedPart]) -> str:
    """The answer that these parts form."""
    marks = {"call": "tool_call", "result": "tool_response"}
    return "\n\n".join(
        each.text if each.kind == "text" else _block(marks[each.kind], each.value or {}) for each in parts
    )


def to_template_messages(role: str, text: str, template: str) -> list[dict[str, Any]]:
    """A saved message as a template needs it: one message for text and calls, one for each result, and so on."""
    first = to_template_message(role, text, template)
    parts = parse_saved_parts(str(first["content"])) if role == "assistant" else []
    if all(each.kind == "text" for each in parts):
        return [first]
    lines: list[dict[str, Any]] = []
    number = 0
    for each in parts:
        value = each.value or {}
        if each.kind == "result":
            lines.append(
                {
                    "role": "tool",
                    "name": each.name,
                    "tool_call_id": _id(lines, value),
                    "content": _text(value["content"]),
                }
            )
            continue
        last = lines[-1] if lines and lines[-1]["role"] == "assistant" else None
        if last is None or (each.kind == "text" and "tool_calls" in last):
            last = {**(first if not lines else {"role": "assistant"}), "content": ""}
            lines.append(last)
        if each.kind == "text":
            last["content"] = each.text
            continue
        number += 1
        function = {"name": each.name, "arguments": value["arguments"]}
        id = str(value.get("id") or f"call_{number}")
        last.setdefault("tool_calls", []).append({"id": id, "type": "function", "function": function})
    return lines


def _id(lines: Sequence[dict[str, Any]], value: dict[str, Any]) -> str:
    """The call that a result answers: the one it names, else the first without a result."""
    if value.get("id"):
        return str(value["id"])
    answered = {line.get("tool_call_id") for line in lines}
    calls = [each["id"] for line in lines for each in line.get("tool_calls", ())]
    return next((each for each in calls if each not in answered), "")


def _text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def to_typed_parts(text: str) -> list[dict[str, Any]]:
    """The parts of a saved reply as values; none if it contains no calls or results."""
    kept = split_reply(text)
    parts = parse_saved_parts(kept.answer)
    if all(each.kind == "text" for each in parts):
        return []
    thought = [{"type": "thought", "text": kept.thought}] if kept.thought else []
    return thought + [{"type": each.kind, **(each.value or {"text": each.text})} for each in parts]
