"""IBM Granite 3 (`<|tool_call|>` before a list, `<response>` around the answer) and 4 (as Qwen)."""

from modules.families.calls import read_json
from modules.families.family import Calls, Family, thought
from modules.families.markup import read_any

FAMILY = Family(
    name="granite",
    signs=("<|start_of_role|>",),
    thoughts=(thought("Here is my thought process:", "Here is my response:"),),
    calls=(Calls("<|tool_call|>", (), read_json), Calls("<tool_calls>", ("</tool_calls>",), read_any)),
    forced=('<|tool_call|>[{"name": "NAME", "arguments": ', "}]"),
    around=(("<response>", "</response>"),),
    ends=("<|end_of_text|>",),
    others=("<|start_of_role|>",),
)
