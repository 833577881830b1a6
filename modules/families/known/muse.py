"""Muse Glimmer: messages with a header that names the recipient: itself (reasoning), the user, or a tool (a call)."""

from __future__ import annotations

import re

from modules.families.call_form import CallForm
from modules.families.calls import ToolCall, Tools
from modules.families.family import Family, HeaderMarks, Kind
from modules.families.markup import read_invoke

_TO = re.compile(r"\bto=([\w.\-]+)")


def kind_of(header: str) -> tuple[Kind, str]:
    """`assistant to=self`, `to=user`, `to=NAME`."""
    to = _TO.search(header)
    if not to or to[1] == "user":
        return "text", ""
    return ("thought", "") if to[1] == "self" else ("call", to[1])


def _section(inside: str, tools: Tools) -> list[ToolCall]:
    return read_invoke(re.sub(r"</?atem:function_calls>", "", inside), tools)


FAMILY = Family(
    name="muse",
    signs=("<|eom|>", "<|message|>"),
    header=HeaderMarks(
        openings=("<|start|>assistant",),
        end="<|message|>",
        kind_of=kind_of,
        initial=(" to=", "to=", "<|message|>"),
        stops=("<|eom|>", "<|eot|>"),
        read=_section,
    ),
    forms=(
        CallForm(
            ' to=NAME<|message|><atem:function_calls>\n<atem:invoke name="NAME">\n',
            "</atem:invoke>\n</atem:function_calls>",
            field=('<atem:parameter name="KEY">', "</atem:parameter>\n"),
        ),
    ),
    ends=("<|eot|>",),
    others=("<|start|>user", "<|start|>tool"),
    answer="<|eom|><|start|>assistant to=user<|message|>",
)
