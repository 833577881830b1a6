"""ServiceNow's Apriel: its steps first, then `[BEGIN FINAL RESPONSE]`; a list between `<tool_calls>`."""

from modules.families.calls import read_json
from modules.families.family import Calls, Family, thought

FAMILY = Family(
    name="apriel",
    signs=("[BEGIN FINAL RESPONSE]",),
    thoughts=(thought("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),),
    calls=(Calls("<tool_calls>", ("</tool_calls>",), read_json),),
    around=(("[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]"),),
    ends=("<|end|>",),
    others=("<|begin_user|>", "<|user|>", "<|begin_tool_result|>", "<|tool_result|>"),
)
