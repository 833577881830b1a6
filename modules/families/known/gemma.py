"""Gemma 2 and 3 (no marks but those of turns), and Gemma 4 (`<|channel>thought`, calls with strings in `<|"|>`)."""

from __future__ import annotations

import json
import re

from modules.families.calls import Call, Tools, made, object_in
from modules.families.family import Calls, Family, thought
from modules.families.python import read_python

_CALL = re.compile(r"\s*call:\s*([\w.\-]+)\s*(\{.*\})\s*\Z", re.DOTALL)
_STRING = re.compile(r'<\|"\|>(.*?)<\|"\|>', re.DOTALL)
_KEY = re.compile(r"([{,]\s*)([A-Za-z_][\w.\-]*)\s*:")


def read_call(inside: str, tools: Tools) -> list[Call]:
    """`call:NAME{key:<|"|>text<|"|>,other:3}`: JSON but for keys without quotes, and quotes of their own."""
    match = _CALL.match(inside)
    if not match or match[1] not in tools:
        return []
    texts: list[str] = []

    def kept(found: re.Match[str]) -> str:
        texts.append(found[1])
        return f'"\\ue000{len(texts) - 1}"'

    plain = _KEY.sub(r'\1"\2":', _STRING.sub(kept, match[2]))
    plain = re.sub(r'"\\ue000(\d+)"', lambda found: json.dumps(texts[int(found[1])]), plain)
    values = object_in(plain)
    return [made(match[1], values)] if values is not None else []


FAMILY = Family(
    name="gemma",
    signs=("<start_of_turn>",),
    calls=(Calls("```tool_code\n", ("```",), read_python), Calls("```tool_call\n", ("```",), read_python)),
    ends=("<end_of_turn>",),
    others=("<start_of_turn>",),
)
GEMMA4 = Family(
    name="gemma4",
    signs=("<|turn>",),
    thoughts=(thought("<|channel>thought", "<channel|>"),),
    calls=(Calls("<|tool_call>", ("<tool_call|>",), read_call),),
    ends=("<turn|>",),
    others=("<|turn>", "<|tool_response>"),
)
