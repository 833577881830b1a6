"""Liquid's LFM2 and LFM2.5: Python-like calls between control tokens, or without them."""

from modules.families.call_form import python_form
from modules.families.calls import read_bare
from modules.families.family import CallMarks, Family, try_readers
from modules.families.markup import read_any
from modules.families.python_calls import read_python

FAMILY = Family(
    name="lfm",
    signs=("List of tools: ",),
    calls=(CallMarks("<|tool_call_start|>", ("<|tool_call_end|>",), try_readers(read_python, read_any)),),
    bare=(read_bare, read_python),
    forms=(python_form("<|tool_call_start|>[", "]<|tool_call_end|>"),),
    ends=("<|im_end|>",),
    others=("<|im_start|>",),
)
