"""Gemma 2 and 3 (no marks except those of turns), and Gemma 4 (`<|channel>thought`, calls with strings in `<|"|>`)."""

from __future__ import annotations

import json
import re

from modules.families.call_form import CallForm, NestedForm, python_form
from modules.families.calls import ToolCall, Tools, make_call, parse_object
from modules.families.family import CallMarks, Family, thought_marks
from modules.families.python_calls import read_python

_CALL = re.compile(r"\s*call:\s*([\w.\-]+)\s*(\{.*\})\s*\Z", re.DOTALL)
_STRING = re.compile(r'<\|"\|>(.*?)<\|"\|>|"(?:[^"\\]|\\.)*"', re.DOTALL)
_KEY = re.compile(r"([{,]\s*)([A-Za-z_][\w.\-]*)\s*:")


def read_call(inside: str, tools: Tools) -> list[ToolCall]:
    """`call:NAME{key:<|"|>text<|"|>,other:3}`: JSON except for keys without quotes, and its own quotes."""
    match = _CALL.match(inside)
    if not match or match[1] not in tools:
        return []
    texts: list[str] = []

    def kept(found: re.Match[str]) -> str:
        texts.append(json.dumps(found[1]) if found[1] is not None else found[0])  # or JSON's own
        return f'"\\ue000{len(texts) - 1}"'

    plain = _KEY.sub(r'\1"\2":', _STRING.sub(kept, match[2]))
    plain = re.sub(r'"\\ue000(\d+)"', lambda found: texts[int(found[1])], plain)
    values = parse_object(plain)
    return [make_call(match[1], values)] if values is not None else []


FAMILY = Family(
    name="gemma",
    signs=("<start_of_turn>",),
    calls=(CallMarks("```tool_code\n", ("```",), read_python), CallMarks("```tool_call\n", ("```",), read_python)),
    forms=(python_form("```tool_code\n", "\n```"),),
    ends=("<end_of_turn>",),
    others=("<start_of_turn>",),
)
GEMMA4 = Family(
    name="gemma4",
    signs=("<|turn>",),
    thoughts=(thought_marks("<|channel>thought", "<channel|>"),),
    calls=(CallMarks("<|tool_call>", ("<tool_call|>",), read_call),),
    forms=(
        CallForm(
            "<|tool_call>call:NAME{",
            "}<tool_call|>",
            field=("KEY:", ""),
            joined=",",
            quotes=('<|"|>', '<|"|>'),
            nested=NestedForm(("{", "}"), ("[", "]"), ("", ""), ","),
            keys=r"[A-Za-z_][\w.\-]{0,199}",
        ),
    ),
    ends=("<turn|>",),
    others=("<|turn>", "<|tool_response>"),
)
