"""ByteDance Seed-OSS: `<seed:think>`, and parameters by tag between `<seed:tool_call>`."""

from modules.families.call_form import ANY_WORDS, CallForm
from modules.families.family import CallMarks, Family, thought_marks
from modules.families.markup import read_any

FAMILY = Family(
    name="seed",
    signs=("<seed:",),
    thoughts=(thought_marks("<seed:think>", "</seed:think>"),),
    calls=(CallMarks("<seed:tool_call>", ("</seed:tool_call>",), read_any),),
    forms=(
        CallForm(
            "<seed:tool_call>\n<function=NAME>\n",
            "</function>\n</seed:tool_call>",
            field=("<parameter=KEY>", "</parameter>\n"),
            words=ANY_WORDS,
        ),
    ),
    ends=("<seed:eos>",),
    others=("<seed:bos>",),
)
