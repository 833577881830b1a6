"""What a model of transformers keeps of the tokens that it has read, under whatever name it has for it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import DynamicCache

#: What a forward takes and gives back. The first is that of attention; Mamba and RWKV have names of their own.
_NAMES = ("past_key_values", "cache_params", "state")


@dataclass(frozen=True)
class Way:
    """How a cache is used. `layers`: those that the config asks for, whatever the model makes by itself, or such as
    keep all keys, also where the config speaks of windows. `positions`: the model is told where the new tokens stand.
    """

    layers: Literal["config", "own", "all"] = "config"
    positions: bool = False


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

    def __init__(self, model: Any, *, keeps: bool = True, way: Way = Way()) -> None:
        """`keeps`: without it nothing is kept, and each text that is read is a text of its own."""
        self._model = model
        self._name = cache_name(model) if keeps else ""
        self._kept: Any = None
        known = inspect.signature(model.forward).parameters
        self._last_alone = "logits_to_keep" in known
        if self._name == "past_key_values":
            self._kept = DynamicCache() if way.layers == "all" else None if way.layers == "own" else _empty(model)
        self._positions = way.positions and "position_ids" in known
        self._length = 0

    def read(self, ids: Sequence[int], keep: int = 0) -> Any:
        """Append tokens; logits of (at least) the last `keep` of them, of all where it is 0."""
        more: dict[str, Any] = {self._name: self._kept} if self._name else {}
        if self._last_alone:
            more["logits_to_keep"] = keep
        if self._positions:
            places = torch.arange(self._length, self._length + len(ids), device=self._model.device)
            more["position_ids"] = places[None]
        with torch.inference_mode():
            out = self._model(
                input_ids=torch.tensor([list(ids)], device=self._model.device),
                use_cache=bool(self._name),
                return_dict=True,
                **more,
            )
        if self._name:
            self._kept = out[self._name]
            self._length += len(ids)
        return out.logits

    def cut(self, to: int) -> bool:
        """Forget the tokens from `to` on. False where that cannot be: the cache is of no use then."""
        try:
            self._kept.crop(to - self._length)  # as many tokens fewer: all versions read it so
            self._length = to
            return bool(self._kept.get_seq_length() == to)
        except (RuntimeError, ValueError, NotImplementedError, AttributeError, TypeError):
            return False  # a window moved on, a recurrent state


def _empty(model: Any) -> Any:
    """A cache with the layers that the config asks for; None leaves it to the model."""
    try:
        return DynamicCache(config=model.config)
    except Exception:  # a folder's own code may name layers that transformers has no cache for
        return None
