"""OpenBMB's MiniCPM 5: `<function name="NAME"><param name="KEY">VALUE</param></function>`."""

from __future__ import annotations

from modules.families.call_form import ANY_WORDS, CallForm
from modules.families.calls import ToolCall, Tools
from modules.families.family import CallMarks, Family
from modules.families.markup import read_invoke


def _rest(inside: str, tools: Tools) -> list[ToolCall]:
    return read_invoke(f'<function name="{inside}</function>', tools)


FAMILY = Family(
    name="minicpm",
    signs=('<function name="', "<param "),
    calls=(CallMarks('<function name="', ("</function>",), _rest),),
    forms=(
        CallForm('<function name="NAME">', "</function>", field=('<param name="KEY">', "</param>"), words=ANY_WORDS),
    ),
    ends=("<|im_end|>",),
    others=("<|im_start|>",),
)
