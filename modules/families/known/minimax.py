"""MiniMax M1 (JSON, one call per line), M2 (`<invoke name=...>`) and M3 (elements, each after its own mark)."""

from __future__ import annotations

from modules.families.call_form import CallForm, NestedForm
from modules.families.calls import ToolCall, Tools, read_json
from modules.families.family import CallMarks, Family, thought_marks
from modules.families.markup import read_invoke, read_tags

_NAMESPACE = "]<]minimax[>["


def _tags(inside: str, tools: Tools) -> list[ToolCall]:
    return read_tags(inside.replace(_NAMESPACE, ""), tools)


FAMILY = Family(
    name="minimax",
    signs=("<minimax:tool_call>",),
    calls=(CallMarks("<minimax:tool_call>", ("</minimax:tool_call>",), read_invoke),),
    forms=(
        CallForm(
            '<minimax:tool_call>\n<invoke name="NAME">\n',
            "</invoke>\n</minimax:tool_call>",
            field=('<parameter name="KEY">', "</parameter>\n"),
        ),
    ),
    ends=("[e~[",),
    others=("]~b]",),
)
M1 = Family(
    name="minimax_m1",
    signs=("<beginning_of_sentence>",),
    calls=(CallMarks("<tool_calls>", ("</tool_calls>",), read_json),),
    forms=(CallForm('<tool_calls>\n{"name": "NAME", "arguments": ', "}\n</tool_calls>"),),
    ends=("<end_of_sentence>",),
    others=("<beginning_of_sentence>",),
)
M3 = Family(
    name="minimax_m3",
    signs=("mm:think",),
    thoughts=(thought_marks("<mm:think>", "</mm:think>"),),
    calls=(CallMarks(f"{_NAMESPACE}<tool_call>", (f"{_NAMESPACE}</tool_call>",), _tags),),
    forms=(
        CallForm(
            f'{_NAMESPACE}<tool_call>\n{_NAMESPACE}<invoke name="NAME">',
            f"{_NAMESPACE}</invoke>\n{_NAMESPACE}</tool_call>",
            field=(f"{_NAMESPACE}<KEY>", f"{_NAMESPACE}</KEY>"),
            nested=NestedForm(("", ""), ("", ""), (f"{_NAMESPACE}<item>", f"{_NAMESPACE}</item>")),
        ),
    ),
    ends=("[e~[",),
    others=("]~b]",),
)
