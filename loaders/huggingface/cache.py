"""The cache of a transformers model, whatever name and form the model has for it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import DynamicCache

#: Names of the forward pass's cache argument and result. The first is that of attention; Mamba and RWKV have their own.
_NAMES = ("past_key_values", "cache_params", "state")


@dataclass(frozen=True)
class CacheUsage:
    """How a cache is used. `layers`: those of the config, the model's own default, or layers that keep all keys even if
    the config has windows. `positions`: the model is told the positions of new tokens.
    """

    layers: Literal["config", "own", "all"] = "config"
    positions: bool = False


def cache_argument_name(model: Any) -> str:
    """The name of the model's cache argument; "" if its forward pass has none."""
    known = inspect.signature(model.forward).parameters
    return next((name for name in _NAMES if name in known), "")


def can_copy_cache(model: Any) -> bool:
    """Whether its cache can be copied for several next tokens at once: that of attention can, a recurrent state
    cannot.
    """
    cache = _empty(model) if cache_argument_name(model) == "past_key_values" else None
    layers = getattr(cache, "layers", None) or []
    return bool(layers) and all(hasattr(layer, "batch_repeat_interleave") for layer in layers)


class TransformersCache:
    """The tokens of one text and their cache. Used by one thread at a time."""

    def __init__(self, model: Any, *, keeps: bool = True, way: CacheUsage = CacheUsage()) -> None:
        """`keeps`: if False, nothing is kept, and each text is read independently."""
        self._model = model
        self._name = cache_argument_name(model) if keeps else ""
        self._kept: Any = None
        known = inspect.signature(model.forward).parameters
        self._last_alone = "logits_to_keep" in known
        if self._name == "past_key_values":
            self._kept = DynamicCache() if way.layers == "all" else None if way.layers == "own" else _empty(model)
        self._positions = way.positions and "position_ids" in known
        self._length = 0

    def read(self, ids: Sequence[int], keep: int = 0) -> Any:
        """Append tokens; returns the logits of (at least) the last `keep` of them, of all if it is 0."""
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
        """Drop the tokens from `to` on. False if that is not possible: the cache is useless then."""
        try:
            self._kept.crop(to - self._length)  # remove this many tokens: all versions interpret it so
            self._length = to
            return bool(self._kept.get_seq_length() == to)
        except (RuntimeError, ValueError, NotImplementedError, AttributeError, TypeError):
            return False  # a window has moved on, or the state is recurrent


def _empty(model: Any) -> Any:
    """A cache with the config's layers; None leaves it to the model."""
    try:
        return DynamicCache(config=model.config)
    except Exception:  # a folder's own code may name layers for which transformers has no cache
        return None
