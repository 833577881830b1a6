"""DeepSeek R1, V3, V3.1 (calls in control tokens), V3.2 and V4 (`<｜DSML｜invoke name=...>`)."""

from __future__ import annotations

import re

from modules.families.call_form import CallForm
from modules.families.calls import ToolCall, Tools, named_json, read_named_row
from modules.families.family import CallMarks, Family
from modules.families.markup import read_invoke

_ONE = named_json(
    re.compile(
        r"(?:<｜tool▁call▁begin｜>)?\s*(?:function<｜tool▁sep｜>)?(?P<name>[^<\n`]+?)(?:<｜tool▁sep｜>|\n)\s*"
        r"(?:```(?:json)?\s*)?"
    ),
    re.compile(r"\s*(?:```\s*)?(?:<｜tool▁call▁end｜>|\Z)\s*"),
)


def read_calls(inside: str, tools: Tools) -> list[ToolCall]:
    """`NAME<｜tool▁sep｜>{...}`, or `function<｜tool▁sep｜>NAME` with the JSON in a block of code."""
    return read_named_row(inside, _ONE, tools)


_BEGIN, _END = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>", "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"


def _dsml(section: str) -> CallForm:
    """V3.2 and V4 differ only in the section's name."""
    return CallForm(
        f'<｜DSML｜{section}>\n<｜DSML｜invoke name="NAME">\n',
        f"</｜DSML｜invoke>\n</｜DSML｜{section}>",
        sign="function_calls" if section == "function_calls" else "DSML",
        field=('<｜DSML｜parameter name="KEY" string="TEXT">', "</｜DSML｜parameter>\n"),
    )


FAMILY = Family(
    name="deepseek",
    signs=("<｜Assistant｜>",),
    calls=(
        CallMarks("<｜tool▁calls▁begin｜>", ("<｜tool▁calls▁end｜>",), read_calls),
        CallMarks("<｜DSML｜function_calls>", ("</｜DSML｜function_calls>",), read_invoke),
        CallMarks("<｜DSML｜tool_calls>", ("</｜DSML｜tool_calls>",), read_invoke),
    ),
    forms=(
        _dsml("function_calls"),
        _dsml("tool_calls"),
        CallForm(f"{_BEGIN}function<｜tool▁sep｜>NAME\n```json\n", f"\n```{_END}", sign="```json"),
        CallForm(f"{_BEGIN}NAME<｜tool▁sep｜>", _END),
    ),
    ends=("<｜end▁of▁sentence｜>",),
    others=("<｜User｜>",),
)
