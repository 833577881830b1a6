"""Mistral: `[TOOL_CALLS]` before a list (7B v3, Nemo, Large) or before each `NAME[ARGS]{...}` (Small 3, Devstral,
Ministral 3), reasoning in `[THINK]` (Magistral, Ministral 3).
"""

from __future__ import annotations

import re

from modules.families.call_form import ID, CallForm
from modules.families.calls import ToolCall, Tools, named_json, read_json, read_named_row
from modules.families.family import CallMarks, Family, thought_marks

_ONE = named_json(
    re.compile(
        r"\s*(?:\[TOOL_CALLS\])?\s*(?P<name>[^\s\[\]{}]+)\s*(?:\[CALL_ID\](?P<id>[A-Za-z0-9]+))?\s*(?:\[ARGS\])?\s*(?=\{)"
    ),
    re.compile(""),
)


def read_args(inside: str, tools: Tools) -> list[ToolCall]:
    """A list of calls in JSON, or `NAME[CALL_ID]ID[ARGS]{...}` one or more times."""
    if inside.lstrip()[:1] in ("[", "{"):
        return read_json(inside, tools)
    return read_named_row(inside, _ONE, tools)


ARGS = CallMarks("[TOOL_CALLS]", (), read_args)
FAMILY = Family(
    name="mistral",
    signs=("[INST]",),
    thoughts=(thought_marks("[THINK]", "[/THINK]"),),
    calls=(ARGS,),
    forms=(
        CallForm(f"[TOOL_CALLS]NAME[CALL_ID]{ID}[ARGS]", "", sign="[CALL_ID]"),
        CallForm("[TOOL_CALLS]NAME[ARGS]", "", sign="[ARGS]"),
        CallForm('[TOOL_CALLS][{"name": "NAME", "arguments": ', f', "id": "{ID}"' + "}]", sign='"id"'),
        CallForm('[TOOL_CALLS][{"name": "NAME", "arguments": ', "}]"),
    ),
    others=("[INST]",),
)
