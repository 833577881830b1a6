"""Sber's GigaChat 3: a call is a separate message."""

from modules.families.call_form import CallForm
from modules.families.calls import read_json
from modules.families.family import CallMarks, Family

FAMILY = Family(
    name="gigachat",
    signs=("<|role_sep|>",),
    calls=(
        CallMarks("<|function_call|>", (), read_json),
        CallMarks("function call<|role_sep|>", ("<|message_sep|>",), read_json),
    ),
    forms=(
        CallForm('<|function_call|>{"name": "NAME", "arguments": ', "}", sign="<|function_call|>"),
        CallForm('function call<|role_sep|>\n{"name": "NAME", "arguments": ', "}"),
    ),
    ends=("<|message_sep|>",),
)
