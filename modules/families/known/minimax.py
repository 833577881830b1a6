"""MiniMax M1 (JSON, one call a line), M2 (`<invoke name=...>`) and M3 (elements, each behind a mark of its own)."""

from __future__ import annotations

from modules.families.calls import Call, Tools, read_json
from modules.families.family import Calls, Family, thought
from modules.families.markup import read_invoke, read_tags

_NAMESPACE = "]<]minimax[>["


def _tags(inside: str, tools: Tools) -> list[Call]:
    return read_tags(inside.replace(_NAMESPACE, ""), tools)


FAMILY = Family(
    name="minimax",
    signs=("<minimax:tool_call>",),
    calls=(Calls("<minimax:tool_call>", ("</minimax:tool_call>",), read_invoke),),
    ends=("[e~[",),
    others=("]~b]",),
)
M1 = Family(
    name="minimax_m1",
    signs=("<beginning_of_sentence>",),
    calls=(Calls("<tool_calls>", ("</tool_calls>",), read_json),),
    ends=("<end_of_sentence>",),
    others=("<beginning_of_sentence>",),
)
M3 = Family(
    name="minimax_m3",
    signs=("mm:think",),
    thoughts=(thought("<mm:think>", "</mm:think>"),),
    calls=(Calls(f"{_NAMESPACE}<tool_call>", (f"{_NAMESPACE}</tool_call>",), _tags),),
    ends=("[e~[",),
    others=("]~b]",),
)
