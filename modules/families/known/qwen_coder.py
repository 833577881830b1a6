"""Qwen3-Coder, Qwen 3.5, Nemotron 3, StepFun 3.5: parameters by tag between `<tool_call>`, or without it."""

from __future__ import annotations

from modules.families.calls import Call, Tools
from modules.families.family import Calls, Family
from modules.families.markup import read_function


def _rest(inside: str, tools: Tools) -> list[Call]:
    return read_function(f"<function={inside}</function>", tools)


FAMILY = Family(
    name="qwen_coder",
    signs=("<function=", "<parameter="),
    calls=(Calls("<function=", ("</function>",), _rest),),
    ends=("<|im_end|>",),
    others=("<|im_start|>",),
)
