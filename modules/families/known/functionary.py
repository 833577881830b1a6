"""Functionary 3.1 (`<function=NAME>{...}</function>`) and 3.2 (`>>>NAME`, the content on the lines below)."""

from __future__ import annotations

from modules.families.call_form import CallForm
from modules.families.calls import ToolCall, Tools
from modules.families.family import CallMarks, Family, HeaderMarks, Kind
from modules.families.markup import read_function


def kind_of(header: str) -> tuple[Kind, str]:
    """`all` is the answer to everyone; any other name is a tool's."""
    name = header.strip()
    return ("text", "") if name == "all" else ("call", name)


def _rest(inside: str, tools: Tools) -> list[ToolCall]:
    return read_function(f"<function={inside}</function>", tools)


FAMILY = Family(
    name="functionary",
    signs=("<function=", "<|start_header_id|>"),
    calls=(CallMarks("<function=", ("</function>",), _rest),),
    forms=(CallForm("<function=NAME>", "</function>"),),
    ends=("<|eot_id|>", "<|eom_id|>"),
    others=("<|start_header_id|>",),
)
V32 = Family(
    name="functionary_v3_2",
    signs=(">>>all",),
    forms=(CallForm("NAME\n", ""),),
    header=HeaderMarks(openings=(">>>",), end="\n", kind_of=kind_of, initial=("",)),
    ends=("<|eot_id|>",),
    others=("<|start_header_id|>",),
)
