"""Swiss AI's Apertus: thoughts between `<|inner_prefix|>`, calls as objects with the tool's name as their one key."""

from modules.families.calls import read_json
from modules.families.family import Calls, Family, thought

FAMILY = Family(
    name="apertus",
    signs=("<|tools_prefix|>",),
    thoughts=(thought("<|inner_prefix|>", "<|inner_suffix|>"),),
    calls=(Calls("<|tools_prefix|>", ("<|tools_suffix|>",), read_json),),
    forced=('<|tools_prefix|>[{"NAME": ', "}]<|tools_suffix|>"),
    ends=("<|assistant_end|>",),
    others=("<|user_start|>",),
)
