"""Microsoft's Phi 3.5 and Phi 4: mini writes calls as a list between `<|tool_call|>`; the reasoning models think."""

from modules.families.call_form import CallForm
from modules.families.calls import read_bare
from modules.families.family import CallMarks, Family
from modules.families.markup import read_any
from modules.families.python_calls import read_python

FAMILY = Family(
    name="phi",
    signs=("<|assistant|>", "<|end|>"),
    calls=(
        CallMarks("<|tool_call|>", ("<|/tool_call|>", "</|tool_call|>"), read_any),
        CallMarks("functools", (), read_any),
    ),
    bare=(read_bare, read_python),
    forms=(CallForm('<|tool_call|>[{"name": "NAME", "arguments": ', "}]<|/tool_call|>"),),
    ends=("<|end|>",),
    others=("<|user|>", "<|system|>"),
)
PHI4 = Family(name="phi4", signs=("<|im_sep|>",), ends=("<|im_end|>",), others=("<|im_start|>",))
