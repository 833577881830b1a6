"""Muse Glimmer: messages with a header that names whom they are for; to itself it thinks, to a tool it calls."""

from __future__ import annotations

import re

from modules.families.calls import Call, Tools
from modules.families.family import Family, Header, Kind
from modules.families.markup import read_invoke

_TO = re.compile(r"\bto=([\w.\-]+)")


def kind_of(header: str) -> tuple[Kind, str]:
    """`assistant to=self`, `to=user`, `to=NAME`."""
    to = _TO.search(header)
    if not to or to[1] == "user":
        return "text", ""
    return ("thought", "") if to[1] == "self" else ("call", to[1])


def _section(inside: str, tools: Tools) -> list[Call]:
    return read_invoke(re.sub(r"</?atem:function_calls>", "", inside), tools)


FAMILY = Family(
    name="muse",
    signs=("<|eom|>", "<|message|>"),
    header=Header(
        openings=("<|start|>assistant",),
        end="<|message|>",
        kind_of=kind_of,
        initial=(" to=", "to=", "<|message|>"),
        stops=("<|eom|>", "<|eot|>"),
        read=_section,
    ),
    ends=("<|eot|>",),
    others=("<|start|>user", "<|start|>tool"),
    answer="<|eom|><|start|>assistant to=user<|message|>",
)
