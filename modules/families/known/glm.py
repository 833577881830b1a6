"""GLM 4.5 and later, Laguna, Ling 3, Spark: keys and values in turn between `<tool_call>`.

GLM has no mark at the end of a turn: the header of the other side is where it ends.
"""

from modules.families.family import Family

FAMILY = Family(
    name="glm",
    signs=("<arg_key>",),
    others=("<|user|>", "<|observation|>", "<|system|>"),
)
