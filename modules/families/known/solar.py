"""Upstage Solar Open: messages by kind of content; each call with its own id."""

from __future__ import annotations

import re

from modules.families.call_form import ID, CallForm
from modules.families.calls import ToolCall, Tools, named_json, read_named_row
from modules.families.family import CallMarks, Family, thought_marks

_ONE = named_json(
    re.compile(
        r"\s*<\|tool_call:begin\|>\s*(?P<id>[^<]*?)\s*<\|tool_call:name\|>(?P<name>[^<]*)<\|tool_call:args\|>\s*"
    ),
    re.compile(r"\s*(?:<\|tool_call:end\|>|\Z)\s*"),
)


def read_calls(inside: str, tools: Tools) -> list[ToolCall]:
    """`<|tool_call:begin|>ID<|tool_call:name|>NAME<|tool_call:args|>{...}<|tool_call:end|>`, one or more times."""
    return read_named_row(inside, _ONE, tools)


FAMILY = Family(
    name="solar",
    signs=("<|tool_call:begin|>",),
    thoughts=(thought_marks("<|think|>", "<|end|><|begin|>assistant", "<|end|>"),),
    calls=(CallMarks("<|tool_calls|>", ("<|calls|>",), read_calls),),
    forms=(
        CallForm(
            f"<|tool_calls|><|tool_call:begin|>{ID}<|tool_call:name|>NAME<|tool_call:args|>",
            "<|tool_call:end|><|calls|>",
        ),
    ),
    around=(("<|begin|>assistant", "<|end|>"), ("<|content|>", "<|end|>")),
    ends=("<|flush|>",),
    others=("<|begin|>user", "<|begin|>tool"),
    answer="<|end|><|begin|>assistant<|content|>",
)
