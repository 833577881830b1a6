"""DeepSeek R1, V3, V3.1 (calls in control tokens), V3.2 and V4 (`<｜DSML｜invoke name=...>`)."""

from __future__ import annotations

import re

from modules.families.calls import Call, Tools, read_named, read_row
from modules.families.family import Calls, Family
from modules.families.markup import read_invoke

_ONE = re.compile(
    r"(?:<｜tool▁call▁begin｜>)?\s*(?:function<｜tool▁sep｜>)?(?P<name>[^<\n`]+?)(?:<｜tool▁sep｜>|\n)\s*"
    r"(?:```(?:json)?\s*)?(?P<body>\{.*?\})?\s*(?:```\s*)?(?:<｜tool▁call▁end｜>|\Z)\s*",
    re.DOTALL,
)


def read_calls(inside: str, tools: Tools) -> list[Call]:
    """`NAME<｜tool▁sep｜>{...}`, or `function<｜tool▁sep｜>NAME` with the JSON in a block of code."""
    return read_row(inside, _ONE.match, lambda one: read_named(one["name"], one["body"] or "", tools))


FAMILY = Family(
    name="deepseek",
    signs=("<｜Assistant｜>",),
    calls=(
        Calls("<｜tool▁calls▁begin｜>", ("<｜tool▁calls▁end｜>",), read_calls),
        Calls("<｜DSML｜function_calls>", ("</｜DSML｜function_calls>",), read_invoke),
        Calls("<｜DSML｜tool_calls>", ("</｜DSML｜tool_calls>",), read_invoke),
    ),
    forced=("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>NAME<｜tool▁sep｜>", "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"),
    ends=("<｜end▁of▁sentence｜>",),
    others=("<｜User｜>",),
)
