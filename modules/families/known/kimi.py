"""Moonshot's Kimi K2 (calls in control tokens, each with an id that the model counts) and K3 (`<|open|>...<|sep|>`)."""

from __future__ import annotations

import re

from modules.families.call_form import NUMBER, CallForm
from modules.families.calls import (
    MOST,
    ToolCall,
    Tools,
    argument_schema,
    convert_argument,
    make_call,
    named_json,
    read_named_row,
)
from modules.families.family import CallMarks, Family, thought_marks

_ONE = named_json(
    re.compile(
        r"\s*<\|tool_call_begin\|>\s*(?P<id>(?:functions\.)?(?P<name>[\w.\-]+?)(?::\d+)?)\s*"
        r"<\|tool_call_argument_begin\|>\s*"
    ),
    re.compile(r"\s*(?:<\|tool_call_end\|>|\Z)\s*"),
)
_CALL = re.compile(
    r'<\|open\|>call tool="(?P<name>[^"]+)"[^<]*<\|sep\|>(?P<body>.*?)<\|close\|>call<\|sep\|>', re.DOTALL
)
_ARGUMENT = re.compile(
    r'<\|open\|>argument key="(?P<key>[^"]+)"(?: type="(?P<type>\w+)")?[^<]*<\|sep\|>(?P<value>.*?)'
    r"<\|close\|>argument<\|sep\|>",
    re.DOTALL,
)


def read_section(inside: str, tools: Tools) -> list[ToolCall]:
    """K2: `<|tool_call_begin|>functions.NAME:0<|tool_call_argument_begin|>{...}<|tool_call_end|>`, one or more
    times.
    """
    return read_named_row(inside, _ONE, tools)


def read_tools(inside: str, tools: Tools) -> list[ToolCall]:
    """K3: one element per call, containing one per argument, with its type."""
    calls: list[ToolCall] = []
    for match in _CALL.finditer(inside):
        name = match["name"]
        if name not in tools or len(calls) >= MOST:
            return []
        values = {}
        for given in _ARGUMENT.finditer(match["body"]):
            schema = {"type": given["type"]} if given["type"] else argument_schema(tools, name, given["key"])
            values[given["key"]] = convert_argument(given["value"], schema)
        calls.append(make_call(name, values))
    return calls if not _CALL.sub("", inside).strip() else []


FAMILY = Family(
    name="kimi",
    signs=("<|im_middle|>",),
    calls=(CallMarks("<|tool_calls_section_begin|>", ("<|tool_calls_section_end|>",), read_section),),
    forms=(
        CallForm(
            f"<|tool_calls_section_begin|><|tool_call_begin|>functions.NAME:{NUMBER}<|tool_call_argument_begin|>",
            "<|tool_call_end|><|tool_calls_section_end|>",
        ),
    ),
    ends=("<|im_end|>",),
    others=("<|im_user|>", "<|im_system|>", "<|im_assistant|>"),
)
K3 = Family(
    name="kimi_k3",
    signs=("<|end_of_msg|>",),
    thoughts=(thought_marks("<|open|>think<|sep|>", "<|close|>think<|sep|>"),),
    calls=(CallMarks("<|open|>tools<|sep|>", ("<|close|>tools<|sep|>",), read_tools),),
    forms=(
        CallForm(
            '<|open|>tools<|sep|><|open|>call tool="NAME" index="1"<|sep|>',
            "<|close|>call<|sep|><|close|>tools<|sep|>",
            field=('<|open|>argument key="KEY" type="TYPE"<|sep|>', "<|close|>argument<|sep|>"),
        ),
    ),
    around=(("<|open|>response<|sep|>", "<|close|>response<|sep|>"),),
    ends=("<|close|>message<|sep|>", "<|end_of_msg|>"),
    answer="<|close|>think<|sep|><|open|>response<|sep|>",
)
