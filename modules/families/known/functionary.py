"""Functionary 3.1 (`<function=NAME>{...}</function>`) and 3.2 (`>>>NAME`, its words on the lines below)."""

from __future__ import annotations

from modules.families.calls import Call, Tools
from modules.families.family import Calls, Family, Header, Kind
from modules.families.markup import read_function


def kind_of(header: str) -> tuple[Kind, str]:
    """`all` is said to everybody; any other name is a tool's."""
    name = header.strip()
    return ("text", "") if name == "all" else ("call", name)


def _rest(inside: str, tools: Tools) -> list[Call]:
    return read_function(f"<function={inside}</function>", tools)


FAMILY = Family(
    name="functionary",
    signs=("<function=", "<|start_header_id|>"),
    calls=(Calls("<function=", ("</function>",), _rest),),
    ends=("<|eot_id|>", "<|eom_id|>"),
    others=("<|start_header_id|>",),
)
V32 = Family(
    name="functionary_v3_2",
    signs=(">>>all",),
    header=Header(openings=(">>>",), end="\n", kind_of=kind_of, initial=("",)),
    ends=("<|eot_id|>",),
    others=("<|start_header_id|>",),
)
