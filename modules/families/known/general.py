"""A model of no known family: the marks that most write in letters, and calls in all forms that have such marks."""

from __future__ import annotations

from modules.families.calls import read_bare
from modules.families.family import Calls, Family, thought
from modules.families.known.mistral import ARGS
from modules.families.markup import read_any, read_function, read_invoke
from modules.families.python import read_python

FAMILY = Family(
    name="general",
    thoughts=(thought("[THINK]", "[/THINK]"), thought("<thinking>", "</thinking>")),
    calls=(
        ARGS,
        Calls("<function_call>", ("</function_call>",), read_any),
        Calls("<tool_calls>", ("</tool_calls>",), read_any),
        Calls("<|tool_call|>", ("<|/tool_call|>", "</|tool_call|>"), read_any),
        Calls("<|tool_call_start|>", ("<|tool_call_end|>",), read_python),
        Calls("<function_calls>", ("</function_calls>",), read_invoke),
        Calls(
            "<function=", ("</function>",), lambda inside, tools: read_function(f"<function={inside}</function>", tools)
        ),
    ),
    bare=(read_bare, read_python),
)
