"""Cohere's Command R+, R7B, A: marks around reasoning, answer and actions; the oldest writes `Action:` and a block."""

from __future__ import annotations

from modules.families.call_form import CallForm
from modules.families.calls import read_json
from modules.families.family import CallMarks, Family, thought_marks

FAMILY = Family(
    name="command_r",
    signs=("<|START_OF_TURN_TOKEN|>",),
    thoughts=(thought_marks("<|START_THINKING|>", "<|END_THINKING|>"),),
    calls=(
        CallMarks("<|START_ACTION|>", ("<|END_ACTION|>",), read_json),
        CallMarks("Action: ```json", ("```",), read_json),
        CallMarks("Action:```json", ("```",), read_json),
    ),
    around=(("<|START_RESPONSE|>", "<|END_RESPONSE|>"), ("<|START_TEXT|>", "<|END_TEXT|>")),
    forms=(
        CallForm(
            '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "NAME", "parameters": ',
            "}\n]<|END_ACTION|>",
            sign="<|START_ACTION|>",
            loose=True,
        ),
        CallForm('Action: ```json\n[\n    {\n        "tool_name": "NAME",\n        "parameters": ', "\n    }\n]\n```"),
    ),
    ends=("<|END_OF_TURN_TOKEN|>",),
    others=("<|START_OF_TURN_TOKEN|>",),
    answer="<|END_THINKING|><|START_RESPONSE|>",
)
