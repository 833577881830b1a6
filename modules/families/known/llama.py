"""Llama 3.x (bare JSON, or after `<|python_tag|>`), Llama 4 (Python-like lists), firefunction (`functools[...]`)."""

from __future__ import annotations

from modules.families.call_form import CallForm, python_form
from modules.families.calls import read_bare, read_json
from modules.families.family import CallMarks, Family, try_readers
from modules.families.python_calls import read_python

FAMILY = Family(
    name="llama",
    signs=("<|start_header_id|>",),
    calls=(
        CallMarks("<|python_tag|>", ("<|eom_id|>",), try_readers(read_json, read_python)),
        CallMarks("functools", (), read_json),
    ),
    bare=(read_bare, read_python),
    forms=(
        CallForm('functools[{"name": "NAME", "arguments": ', "}]", sign="functools["),
        CallForm('{"name": "NAME", "parameters": ', "}"),
    ),
    ends=("<|eot_id|>", "<|eom_id|>"),
    others=("<|start_header_id|>",),
)
LLAMA4 = Family(
    name="llama4",
    signs=("<|header_start|>",),
    calls=(CallMarks("<|python_start|>", ("<|python_end|>",), try_readers(read_python, read_json)),),
    bare=(read_bare, read_python),
    forms=(python_form("[", "]", sign="<|python_start|>"), CallForm('{"name": "NAME", "parameters": ', "}")),
    ends=("<|eot|>", "<|eom|>"),
    others=("<|header_start|>",),
)
