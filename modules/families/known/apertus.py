"""Swiss AI's Apertus: reasoning between `<|inner_prefix|>` marks, calls as objects with the tool's name as the only
key.
"""

from modules.families.call_form import CallForm
from modules.families.calls import read_json
from modules.families.family import CallMarks, Family, thought_marks

FAMILY = Family(
    name="apertus",
    signs=("<|tools_prefix|>",),
    thoughts=(thought_marks("<|inner_prefix|>", "<|inner_suffix|>"),),
    calls=(CallMarks("<|tools_prefix|>", ("<|tools_suffix|>",), read_json),),
    forms=(CallForm('<|tools_prefix|>[{"NAME": ', "}]<|tools_suffix|>"),),
    ends=("<|assistant_end|>",),
    others=("<|user_start|>",),
)
