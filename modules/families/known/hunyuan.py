"""Tencent Hunyuan 3 (marks with `:opensource`), and Hunyuan A13B (`<answer>`, JSON between `<tool_calls>`)."""

from __future__ import annotations

import re

from modules.families.call_form import CallForm
from modules.families.calls import ToolCall, Tools, read_json
from modules.families.family import CallMarks, Family, thought_marks
from modules.families.markup import read_keys

_ONE = re.compile(r"<tool_call(?::\w+)?>(.*?)</tool_call(?::\w+)?>", re.DOTALL)


def read_section(inside: str, tools: Tools) -> list[ToolCall]:
    """Calls one after another, each between its own marks; or JSON."""
    found = [read_keys(each, tools) or read_json(each, tools) for each in _ONE.findall(inside)]
    if not found or not all(found) or _ONE.sub("", inside).strip():
        return read_json(inside, tools)
    return [call for calls in found for call in calls]


FAMILY = Family(
    name="hunyuan",
    signs=("hy_",),
    thoughts=(thought_marks("<think:opensource>", "</think:opensource>"),),
    calls=(
        CallMarks("<tool_calls:opensource>", ("</tool_calls:opensource>",), read_section),
        CallMarks("<tool_call:opensource>", ("</tool_call:opensource>",), read_keys),
        CallMarks("<tool_calls>", ("</tool_calls>",), read_section),
    ),
    forms=(
        CallForm(
            "<tool_calls:opensource>\n<tool_call:opensource>NAME<tool_sep:opensource>\n",
            "</tool_call:opensource>\n</tool_calls:opensource>",
            sign=":opensource",
            field=(
                "<arg_key:opensource>KEY</arg_key:opensource>\n<arg_value:opensource>",
                "</arg_value:opensource>\n",
            ),
            loose=True,
        ),
        CallForm('<tool_calls>[{"name": "NAME", "arguments": ', "}]</tool_calls>"),
    ),
    around=(("<answer>", "</answer>"),),
    ends=("<｜hy_eos:opensource｜>", "<|eos|>"),
    others=("<｜hy_User:opensource｜>", "<|extra_0|>"),
)
