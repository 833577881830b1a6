"""What a model of transformers keeps of the tokens that it has read, under whatever name it has for it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

#: What a forward takes and gives back. The first is that of attention; Mamba and RWKV have names of their own.
_NAMES = ("past_key_values", "cache_params", "state")


def cache_name(model: Any) -> str:
    """The name of the model's cache; "" where its forward takes none."""
    known = inspect.signature(model.forward).parameters
    return next((name for name in _NAMES if name in known), "")


def can_repeat(model: Any) -> bool:
    """Whether its cache can be copied for several next tokens at once: that of attention can, a recurrent state not."""
    cache = _empty(model) if cache_name(model) == "past_key_values" else None
    layers = getattr(cache, "layers", None) or []
    return bool(layers) and all(hasattr(layer, "batch_repeat_interleave") for layer in layers)


class Cache:
    """The tokens of one text as a model keeps them. Used by one thread at a time."""

    def __init__(self, model: Any, *, keeps: bool = True) -> None:
        """`keeps`: without it nothing is kept, and each text that is read is a text of its own."""
        self._model = model
        self._name = cache_name(model) if keeps else ""
        self._kept: Any = None
        known = inspect.signature(model.forward).parameters
        self._last_alone = "logits_to_keep" in known
        if self._name == "past_key_values":
            self._kept = _empty(model)

    def read(self, ids: Sequence[int], keep: int = 0) -> Any:
        """Append tokens; logits of (at least) the last `keep` of them, of all where it is 0."""
        more: dict[str, Any] = {self._name: self._kept} if self._name else {}
        if self._last_alone:
            more["logits_to_keep"] = keep
        with torch.inference_mode():
            out = self._model(
                input_ids=torch.tensor([list(ids)], device=self._model.device),
                use_cache=bool(self._name),
                return_dict=True,
                **more,
            )
        if self._name:
            self._kept = out[self._name]
        return out.logits

    def cut(self, length: int, to: int) -> bool:
        """Forget the tokens from `to` on, of `length` that it holds. False where it cannot be: it is of no use then."""
        try:
            self._kept.crop(to - length)  # as many tokens fewer: all versions read it so
            return bool(self._kept.get_seq_length() == to)
        except (RuntimeError, ValueError, NotImplementedError, AttributeError, TypeError):
            return False  # a window moved on, a recurrent state


def _empty(model: Any) -> Any:
    """A cache with the layers that the config asks for; None leaves it to the model."""
    try:
        return DynamicCache(config=model.config)
    except Exception:  # a folder's own code may name layers that transformers has no cache for
        return None
