"""Llama 3.x (bare JSON, or after `<|python_tag|>`), Llama 4 (Python-like lists), firefunction (`functools[...]`)."""

from __future__ import annotations

from modules.families.calls import read_bare, read_json
from modules.families.family import Calls, Family, first_of
from modules.families.python import read_python

FAMILY = Family(
    name="llama",
    signs=("<|start_header_id|>",),
    calls=(
        Calls("<|python_tag|>", ("<|eom_id|>",), first_of(read_json, read_python)),
        Calls("functools", (), read_json),
    ),
    bare=(read_bare, read_python),
    forced=('{"name": "NAME", "parameters": ', "}"),
    ends=("<|eot_id|>", "<|eom_id|>"),
    others=("<|start_header_id|>",),
)
LLAMA4 = Family(
    name="llama4",
    signs=("<|header_start|>",),
    calls=(Calls("<|python_start|>", ("<|python_end|>",), first_of(read_python, read_json)),),
    bare=(read_bare, read_python),
    forced=('{"name": "NAME", "parameters": ', "}"),
    ends=("<|eot|>", "<|eom|>"),
    others=("<|header_start|>",),
)
