"""Mistral: `[TOOL_CALLS]` before a list (7B v3, Nemo, Large) or before each `NAME[ARGS]{...}` (Small 3, Devstral,
Ministral 3), thoughts in `[THINK]` (Magistral, Ministral 3).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from modules.families.calls import Call, Tools, read_json, read_named, read_row
from modules.families.family import Calls, Family, thought

_ONE = re.compile(
    r"\s*(?:\[TOOL_CALLS\])?\s*(?P<name>[^\s\[\]{}]+)\s*(?:\[CALL_ID\](?P<id>[A-Za-z0-9]+))?\s*(?:\[ARGS\])?\s*(?=\{)"
)

_JSON = json.JSONDecoder(strict=False)  # models write line ends into strings as they are


@dataclass(frozen=True)
class _Named:
    """A call's name and id, and its arguments up to `stop`."""

    name: str
    id: str
    body: str
    stop: int

    def end(self) -> int:
        return self.stop


def _next(inside: str, at: int) -> _Named | None:
    """The call that begins here; its arguments end where their JSON does."""
    match = _ONE.match(inside, at)
    if not match:
        return None
    try:
        _, stop = _JSON.raw_decode(inside, match.end())
    except (ValueError, RecursionError):
        return None
    return _Named(match["name"], match["id"] or "", inside[match.end() : stop], stop)


def read_args(inside: str, tools: Tools) -> list[Call]:
    """A list of calls in JSON, or `NAME[CALL_ID]ID[ARGS]{...}` once or more."""
    if inside.lstrip()[:1] in ("[", "{"):
        return read_json(inside, tools)
    return read_row(inside, _next, lambda one: read_named(one.name, one.body, tools, one.id))


ARGS = Calls("[TOOL_CALLS]", (), read_args)
FAMILY = Family(
    name="mistral",
    signs=("[INST]",),
    thoughts=(thought("[THINK]", "[/THINK]"),),
    calls=(ARGS,),
    forced=('[TOOL_CALLS][{"name": "NAME", "arguments": ', "}]"),
    others=("[INST]",),
)
