"""ByteDance Seed-OSS: `<seed:think>`, and parameters by tag between `<seed:tool_call>`."""

from modules.families.family import Calls, Family, thought
from modules.families.markup import read_any

FAMILY = Family(
    name="seed",
    signs=("<seed:",),
    thoughts=(thought("<seed:think>", "</seed:think>"),),
    calls=(Calls("<seed:tool_call>", ("</seed:tool_call>",), read_any),),
    forced=('<seed:tool_call>\n{"name": "NAME", "arguments": ', "}\n</seed:tool_call>"),
    ends=("<seed:eos>",),
    others=("<seed:bos>",),
)
