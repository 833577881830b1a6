"""Microsoft's Phi 3.5 and Phi 4: mini calls with a list between `<|tool_call|>`; the reasoning ones think."""

from modules.families.calls import read_bare
from modules.families.family import Calls, Family
from modules.families.markup import read_any
from modules.families.python import read_python

FAMILY = Family(
    name="phi",
    signs=("<|assistant|>", "<|end|>"),
    calls=(
        Calls("<|tool_call|>", ("<|/tool_call|>", "</|tool_call|>"), read_any),
        Calls("functools", (), read_any),
    ),
    bare=(read_bare, read_python),
    forced=('<|tool_call|>[{"name": "NAME", "arguments": ', "}]<|/tool_call|>"),
    ends=("<|end|>",),
    others=("<|user|>", "<|system|>"),
)
PHI4 = Family(name="phi4", signs=("<|im_sep|>",), ends=("<|im_end|>",), others=("<|im_start|>",))
