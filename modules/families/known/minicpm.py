"""OpenBMB's MiniCPM 5: `<function name="NAME"><param name="KEY">VALUE</param></function>`."""

from __future__ import annotations

from modules.families.calls import Call, Tools
from modules.families.family import Calls, Family
from modules.families.markup import read_invoke


def _rest(inside: str, tools: Tools) -> list[Call]:
    return read_invoke(f'<function name="{inside}</function>', tools)


FAMILY = Family(
    name="minicpm",
    signs=('<function name="', "<param "),
    calls=(Calls('<function name="', ("</function>",), _rest),),
    ends=("<|im_end|>",),
    others=("<|im_start|>",),
)
