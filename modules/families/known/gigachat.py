"""Sber's GigaChat 3: a call is a message of its own."""

from modules.families.calls import read_json
from modules.families.family import Calls, Family

FAMILY = Family(
    name="gigachat",
    signs=("<|role_sep|>",),
    calls=(
        Calls("<|function_call|>", (), read_json),
        Calls("function call<|role_sep|>", ("<|message_sep|>",), read_json),
    ),
    ends=("<|message_sep|>",),
)
