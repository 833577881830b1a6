"""Qwen3-Coder, Qwen 3.5, Nemotron 3, StepFun 3.5: parameters by tag between `<tool_call>`, or without it."""

from __future__ import annotations

from modules.families.call_form import ANY_WORDS, CallForm
from modules.families.calls import ToolCall, Tools
from modules.families.family import CallMarks, Family
from modules.families.markup import read_function


def _rest(inside: str, tools: Tools) -> list[ToolCall]:
    return read_function(f"<function={inside}</function>", tools)


FAMILY = Family(
    name="qwen_coder",
    signs=("<function=", "<parameter="),
    calls=(CallMarks("<function=", ("</function>",), _rest),),
    forms=(
        CallForm(
            "<tool_call>\n<function=NAME>\n",
            "</function>\n</tool_call>",
            field=("<parameter=KEY>\n", "\n</parameter>\n"),
            words=ANY_WORDS,
        ),
    ),
    ends=("<|im_end|>",),
    others=("<|im_start|>",),
)
