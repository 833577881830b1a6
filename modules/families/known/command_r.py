"""Cohere's Command R+, R7B, A: marks around thought, answer and actions; the eldest writes `Action:` and a block."""

from __future__ import annotations

from modules.families.calls import read_json
from modules.families.family import Calls, Family, thought

FAMILY = Family(
    name="command_r",
    signs=("<|START_OF_TURN_TOKEN|>",),
    thoughts=(thought("<|START_THINKING|>", "<|END_THINKING|>"),),
    calls=(
        Calls("<|START_ACTION|>", ("<|END_ACTION|>",), read_json),
        Calls("Action: ```json", ("```",), read_json),
        Calls("Action:```json", ("```",), read_json),
    ),
    around=(("<|START_RESPONSE|>", "<|END_RESPONSE|>"), ("<|START_TEXT|>", "<|END_TEXT|>")),
    forced=('<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "NAME", "parameters": ', "}]<|END_ACTION|>"),
    ends=("<|END_OF_TURN_TOKEN|>",),
    others=("<|START_OF_TURN_TOKEN|>",),
    answer="<|END_THINKING|><|START_RESPONSE|>",
)
