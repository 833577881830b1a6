"""SmolLM3: JSON between `<tool_call>`, or Python-like calls between `<code>`."""

from modules.families.family import CallMarks, Family
from modules.families.python_calls import read_python

FAMILY = Family(
    name="smollm",
    signs=("reasoning_mode", "<|im_start|>"),
    calls=(CallMarks("<code>", ("</code>",), read_python),),
    ends=("<|im_end|>",),
    others=("<|im_start|>",),
)
