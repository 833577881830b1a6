"""GLM 4.5 and later, Laguna, Ling 3, Spark: alternating keys and values between `<tool_call>`.

GLM has no mark at the end of a turn: a turn ends where the other side's header begins.
"""

from modules.families.call_form import CallForm
from modules.families.family import Family

FAMILY = Family(
    name="glm",
    signs=("<arg_key>",),
    forms=(
        CallForm(
            "<tool_call>NAME\n",
            "</tool_call>",
            field=("<arg_key>KEY</arg_key>\n<arg_value>", "</arg_value>\n"),
            loose=True,
        ),
    ),
    others=("<|user|>", "<|observation|>", "<|system|>"),
)
