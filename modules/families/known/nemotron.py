"""NVIDIA's Nemotron Nano 2: a list between `<TOOLCALL>`. (Nemotron 3 writes as Qwen3-Coder, see there.)"""

from modules.families.calls import read_json
from modules.families.family import Calls, Family

FAMILY = Family(
    name="nemotron",
    signs=("<TOOLCALL>",),
    calls=(Calls("<TOOLCALL>", ("</TOOLCALL>",), read_json),),
    forced=('<TOOLCALL>[{"name": "NAME", "arguments": ', "}]</TOOLCALL>"),
    ends=("<SPECIAL_12>",),
    others=("<SPECIAL_11>",),
)
