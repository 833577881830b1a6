"""Fixes RoPE that depends on the length of the text to the whole context.

With dynamic NTK scaling and LongRoPE, transformers changes the frequencies while the text grows, so that cached keys
were computed with other frequencies than later ones: replies would depend on how a text was read, and on what was read
before it. llama.cpp chooses them once, by the size of the context, and so do we. It knows transformers' modules only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS


def freeze_rope(model: Any, n_ctx: int) -> str:
    """Let all layers keep the frequencies for a text of `n_ctx` tokens. Returns what was done as text, "" if
    nothing.
    """
    found = set()
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        if isinstance(kinds, str) and _varies(kinds):
            found.add(kinds)
            _fix(module, kinds, n_ctx, None)
            module.rope_type = "default"
        elif isinstance(kinds, Mapping):  # one for each type of layer
            for layer, kind in kinds.items():
                if _varies(kind):
                    found.add(kind)
                    _fix(module, kind, n_ctx, layer)
            module.rope_type = {layer: "default" if _varies(kind) else kind for layer, kind in kinds.items()}
    if not found:
        return ""
    return f"RoPE ({', '.join(sorted(found))}) is fixed for {n_ctx:,} tokens, so that cached tokens can be reused"


def _varies(kind: Any) -> bool:
    return isinstance(kind, str) and ("dynamic" in kind or kind == "longrope")


def _fix(module: Any, kind: str, n_ctx: int, layer: str | None) -> None:
    prefix = f"{layer}_" if layer else ""
    before = getattr(module, f"{prefix}inv_freq")
    more = {"layer_type": layer} if layer else {}
    frequencies, scaling = ROPE_INIT_FUNCTIONS[kind](module.config, before.device, seq_len=n_ctx, **more)
    module.register_buffer(f"{prefix}inv_freq", frequencies.to(before.device), persistent=False)
    setattr(module, f"{prefix}attention_scaling", scaling)
