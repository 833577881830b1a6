"""Upstage Solar Open: messages by kind of content; each call with an id of its own."""

from __future__ import annotations

import re

from modules.families.calls import Call, Tools, read_named, read_row
from modules.families.family import Calls, Family, thought

_ONE = re.compile(
    r"\s*<\|tool_call:begin\|>\s*(?P<id>.*?)\s*<\|tool_call:name\|>(?P<name>.*?)<\|tool_call:args\|>(?P<body>.*?)"
    r"(?:<\|tool_call:end\|>|\Z)\s*",
    re.DOTALL,
)


def read_calls(inside: str, tools: Tools) -> list[Call]:
    """`<|tool_call:begin|>ID<|tool_call:name|>NAME<|tool_call:args|>{...}<|tool_call:end|>`, once or more."""
    return read_row(inside, _ONE.match, lambda one: read_named(one["name"], one["body"], tools, one["id"]))


FAMILY = Family(
    name="solar",
    signs=("<|tool_call:begin|>",),
    thoughts=(thought("<|think|>", "<|end|><|begin|>assistant", "<|end|>"),),
    calls=(Calls("<|tool_calls|>", ("<|calls|>",), read_calls),),
    around=(("<|begin|>assistant", "<|end|>"), ("<|content|>", "<|end|>")),
    ends=("<|flush|>",),
    others=("<|begin|>user", "<|begin|>tool"),
    answer="<|end|><|begin|>assistant<|content|>",
)
