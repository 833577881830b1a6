"""A model of no known family: the most common text marks, and calls in all forms that have such marks."""

from __future__ import annotations

from modules.families.calls import read_bare
from modules.families.family import CallMarks, Family, thought_marks
from modules.families.known.mistral import ARGS
from modules.families.markup import read_any, read_function, read_invoke
from modules.families.python_calls import read_python

FAMILY = Family(
    name="general",
    thoughts=(thought_marks("[THINK]", "[/THINK]"), thought_marks("<thinking>", "</thinking>")),
    calls=(
        ARGS,
        CallMarks("<function_call>", ("</function_call>",), read_any),
        CallMarks("<tool_calls>", ("</tool_calls>",), read_any),
        CallMarks("<|tool_call|>", ("<|/tool_call|>", "</|tool_call|>"), read_any),
        CallMarks("<|tool_call_start|>", ("<|tool_call_end|>",), read_python),
        CallMarks("<function_calls>", ("</function_calls>",), read_invoke),
        CallMarks(
            "<function=", ("</function>",), lambda inside, tools: read_function(f"<function={inside}</function>", tools)
        ),
    ),
    bare=(read_bare, read_python),
)
