"""Which modules are trained in models whose layers are not named as Llama's: by peft's own table, where it has one.

The table is copied because importing peft takes seconds; a test holds it against peft's. This module must not know how
anything is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: model_type -> the modules that peft trains where none are named
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
#: The same for models that peft has no row for: where queries and values are computed, or what stands in their place.
MORE: Mapping[str, tuple[str, ...]] = {
    "phi3": ("qkv_proj",),
    "dbrx": ("Wqkv",),
    "mamba": ("in_proj", "x_proj"),
    "mamba2": ("in_proj",),
}


def fitting(model_type: str, wanted: Sequence[str], has: Sequence[str]) -> tuple[str, ...]:
    """The modules to train in a model that `has` these: those that are wanted if it has one of them, else the table's.

    Where no table knows the model, the wanted ones come back, so that what lacks is named.
    """
    if set(wanted) & set(has):
        return tuple(wanted)
    known = PEFT.get(model_type) or MORE.get(model_type) or ()
    return known if known and set(known) <= set(has) else tuple(wanted)
