"""IBM Granite 3 (`<|tool_call|>` before a list, `<response>` around the answer) and 4 (as Qwen)."""

from modules.families.call_form import TOLD, CallForm
from modules.families.calls import read_json
from modules.families.family import CallMarks, Family, thought_marks
from modules.families.markup import read_any

FAMILY = Family(
    name="granite",
    signs=("<|start_of_role|>",),
    thoughts=(thought_marks("Here is my thought process:", "Here is my response:"),),
    calls=(CallMarks("<|tool_call|>", (), read_json), CallMarks("<tool_calls>", ("</tool_calls>",), read_any)),
    forms=(
        CallForm(TOLD.before, TOLD.after, sign="<tool_call>"),
        CallForm('<|tool_call|>[{"name": "NAME", "arguments": ', "}]"),
    ),
    around=(("<response>", "</response>"),),
    ends=("<|end_of_text|>",),
    others=("<|start_of_role|>",),
)
