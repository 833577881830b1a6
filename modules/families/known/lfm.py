"""Liquid's LFM2 and LFM2.5: Python-like calls between control tokens, or without them."""

from modules.families.calls import read_bare
from modules.families.family import Calls, Family, first_of
from modules.families.markup import read_any
from modules.families.python import read_python

FAMILY = Family(
    name="lfm",
    signs=("List of tools: ",),
    calls=(Calls("<|tool_call_start|>", ("<|tool_call_end|>",), first_of(read_python, read_any)),),
    bare=(read_bare, read_python),
    ends=("<|im_end|>",),
    others=("<|im_start|>",),
)
