"""NVIDIA's Nemotron Nano 2: a list between `<TOOLCALL>`. (Nemotron 3 writes like Qwen3-Coder, see there.)"""

from modules.families.call_form import CallForm
from modules.families.calls import read_json
from modules.families.family import CallMarks, Family

FAMILY = Family(
    name="nemotron",
    signs=("<TOOLCALL>",),
    calls=(CallMarks("<TOOLCALL>", ("</TOOLCALL>",), read_json),),
    forms=(CallForm('<TOOLCALL>[{"name": "NAME", "arguments": ', "}]</TOOLCALL>"),),
    ends=("<SPECIAL_12>",),
    others=("<SPECIAL_11>",),
)
