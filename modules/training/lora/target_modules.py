"""Which modules are trained in models whose layers are not named like Llama's: by peft's own table, if it has an entry.

The table is copied because importing peft takes seconds; a test compares it with peft's. This module must not know how
anything is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: model_type -> the modules that peft trains by default
PEFT: Mapping[str, tuple[str, ...]] = {
    "gpt2": ("c_attn",),
    "gpt_bigcode": ("c_attn",),
    "bloom": ("query_key_value",),
    "gpt_neox": ("query_key_value",),
    "falcon": ("query_key_value",),
    "RefinedWeb": ("query_key_value",),
    "RefinedWebModel": ("query_key_value",),
    "chatglm": ("query_key_value",),
    "mpt": ("Wqkv",),
    "codegen": ("qkv_proj",),
    "btlm": ("c_proj", "c_attn"),
}
#: The same for models that peft has no entry for: where queries and values are computed, or their equivalents.
MORE: Mapping[str, tuple[str, ...]] = {
    "phi3": ("qkv_proj",),
    "dbrx": ("Wqkv",),
    "mamba": ("in_proj", "x_proj"),
    "mamba2": ("in_proj",),
}


def choose_target_modules(model_type: str, wanted: Sequence[str], has: Sequence[str]) -> tuple[str, ...]:
    """The modules to train in a model that `has` these: the requested ones if it has one of them, else the table's.

    If no table has the model, the requested ones are returned, so that the error can name what is missing.
    """
    if set(wanted) & set(has):
        return tuple(wanted)
    known = PEFT.get(model_type) or MORE.get(model_type) or ()
    return known if known and set(known) <= set(has) else tuple(wanted)
