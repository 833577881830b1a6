"""Moonshot's Kimi K2 (calls in control tokens, each with an id that the model counts) and K3 (`<|open|>...<|sep|>`)."""

from __future__ import annotations

import re

from modules.families.calls import MOST, Call, Tools, made, read_named, read_row, schema_of, typed
from modules.families.family import Calls, Family, thought

_ONE = re.compile(
    r"\s*<\|tool_call_begin\|>\s*(?P<id>(?:functions\.)?(?P<name>[\w.\-]+?)(?::\d+)?)\s*<\|tool_call_argument_begin\|>"
    r"(?P<body>.*?)(?:<\|tool_call_end\|>|\Z)\s*",
    re.DOTALL,
)
_CALL = re.compile(
    r'<\|open\|>call tool="(?P<name>[^"]+)"[^<]*<\|sep\|>(?P<body>.*?)<\|close\|>call<\|sep\|>', re.DOTALL
)
_ARGUMENT = re.compile(
    r'<\|open\|>argument key="(?P<key>[^"]+)"(?: type="(?P<type>\w+)")?[^<]*<\|sep\|>(?P<value>.*?)'
    r"<\|close\|>argument<\|sep\|>",
    re.DOTALL,
)


def read_section(inside: str, tools: Tools) -> list[Call]:
    """K2: `<|tool_call_begin|>functions.NAME:0<|tool_call_argument_begin|>{...}<|tool_call_end|>`, once or more."""
    return read_row(inside, _ONE.match, lambda one: read_named(one["name"], one["body"], tools, one["id"]))


def read_tools(inside: str, tools: Tools) -> list[Call]:
    """K3: an element for each call, and one in it for each argument, with its type."""
    calls: list[Call] = []
    for match in _CALL.finditer(inside):
        name = match["name"]
        if name not in tools or len(calls) >= MOST:
            return []
        values = {}
        for given in _ARGUMENT.finditer(match["body"]):
            schema = {"type": given["type"]} if given["type"] else schema_of(tools, name, given["key"])
            values[given["key"]] = typed(given["value"], schema)
        calls.append(made(name, values))
    return calls if not _CALL.sub("", inside).strip() else []


FAMILY = Family(
    name="kimi",
    signs=("<|im_middle|>",),
    calls=(Calls("<|tool_calls_section_begin|>", ("<|tool_calls_section_end|>",), read_section),),
    forced=(
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.NAME:0<|tool_call_argument_begin|>",
        "<|tool_call_end|><|tool_calls_section_end|>",
    ),
    ends=("<|im_end|>",),
    others=("<|im_user|>", "<|im_system|>", "<|im_assistant|>"),
)
K3 = Family(
    name="kimi_k3",
    signs=("<|end_of_msg|>",),
    thoughts=(thought("<|open|>think<|sep|>", "<|close|>think<|sep|>"),),
    calls=(Calls("<|open|>tools<|sep|>", ("<|close|>tools<|sep|>",), read_tools),),
    around=(("<|open|>response<|sep|>", "<|close|>response<|sep|>"),),
    ends=("<|close|>message<|sep|>", "<|end_of_msg|>"),
    answer="<|close|>think<|sep|><|open|>response<|sep|>",
)
