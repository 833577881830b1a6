"""Mistral: `[TOOL_CALLS]` before a list (7B v3, Nemo, Large) or before each `NAME[ARGS]{...}` (Small 3, Devstral,
Ministral 3), thoughts in `[THINK]` (Magistral, Ministral 3).
"""

from __future__ import annotations

import re

from modules.families.calls import MOST, Call, Tools, object_in, read_json, read_named
from modules.families.family import Calls, Family, thought

_ONE = re.compile(
    r"\s*(?:\[TOOL_CALLS\])?\s*(?P<name>[^\s\[\]{}]+)\s*(?:\[CALL_ID\](?P<id>[A-Za-z0-9]+))?\s*(?:\[ARGS\])?\s*(?=\{)"
)


def read_args(inside: str, tools: Tools) -> list[Call]:
    """A list of calls in JSON, or `NAME[CALL_ID]ID[ARGS]{...}` once or more."""
    if inside.lstrip()[:1] in ("[", "{"):
        return read_json(inside, tools)
    calls: list[Call] = []
    at = 0
    while at < len(inside.rstrip()) and len(calls) < MOST:
        match = _ONE.match(inside, at)
        if not match:
            return []
        follows = _ONE.search(inside, match.end())
        while follows and object_in(inside[match.end() : follows.start()]) is None:
            follows = _ONE.search(inside, follows.end())  # it stood within the arguments
        end = follows.start() if follows else len(inside)
        found = read_named(match["name"], inside[match.end() : end], tools, match["id"] or "")
        if not found:
            return []
        calls += found
        at = end
    return calls


ARGS = Calls("[TOOL_CALLS]", (), read_args)
FAMILY = Family(
    name="mistral",
    signs=("[INST]",),
    thoughts=(thought("[THINK]", "[/THINK]"),),
    calls=(ARGS,),
    forced=('[TOOL_CALLS][{"name": "NAME", "arguments": ', "}]"),
    others=("[INST]",),
)
