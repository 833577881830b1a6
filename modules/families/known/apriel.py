"""ServiceNow's Apriel: reasoning first, then `[BEGIN FINAL RESPONSE]`; a list of calls between `<tool_calls>`."""

from modules.families.call_form import CallForm
from modules.families.calls import read_json
from modules.families.family import CallMarks, Family, thought_marks

FAMILY = Family(
    name="apriel",
    signs=("[BEGIN FINAL RESPONSE]",),
    thoughts=(thought_marks("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),),
    calls=(CallMarks("<tool_calls>", ("</tool_calls>",), read_json),),
    forms=(CallForm('<tool_calls>[{"name": "NAME", "arguments": ', "}]</tool_calls>"),),
    around=(("[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]"),),
    ends=("<|end|>",),
    others=("<|begin_user|>", "<|user|>", "<|begin_tool_result|>", "<|tool_result|>"),
)
