"""Tencent Hunyuan 3 (marks with `:opensource`), and Hunyuan A13B (`<answer>`, JSON between `<tool_calls>`)."""

from __future__ import annotations

import re

from modules.families.calls import Call, Tools, read_json
from modules.families.family import Calls, Family, thought
from modules.families.markup import read_keys

_ONE = re.compile(r"<tool_call(?::\w+)?>(.*?)</tool_call(?::\w+)?>", re.DOTALL)


def read_section(inside: str, tools: Tools) -> list[Call]:
    """Calls one after another, each between its own marks; or JSON."""
    found = [read_keys(each, tools) or read_json(each, tools) for each in _ONE.findall(inside)]
    if not found or not all(found) or _ONE.sub("", inside).strip():
        return read_json(inside, tools)
    return [call for calls in found for call in calls]


FAMILY = Family(
    name="hunyuan",
    signs=("hy_",),
    thoughts=(thought("<think:opensource>", "</think:opensource>"),),
    calls=(
        Calls("<tool_calls:opensource>", ("</tool_calls:opensource>",), read_section),
        Calls("<tool_call:opensource>", ("</tool_call:opensource>",), read_keys),
        Calls("<tool_calls>", ("</tool_calls>",), read_section),
    ),
    around=(("<answer>", "</answer>"),),
    ends=("<｜hy_eos:opensource｜>", "<|eos|>"),
    others=("<｜hy_User:opensource｜>", "<|extra_0|>"),
)
