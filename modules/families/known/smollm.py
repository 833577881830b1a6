"""SmolLM3: JSON between `<tool_call>`, or Python-like calls between `<code>`."""

from modules.families.family import Calls, Family
from modules.families.python import read_python

FAMILY = Family(
    name="smollm",
    signs=("reasoning_mode", "<|im_start|>"),
    calls=(Calls("<code>", ("</code>",), read_python),),
    ends=("<|im_end|>",),
    others=("<|im_start|>",),
)
