"""A model of transformers as a decoder: its own cache for each branch, cut where its layers allow it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from loaders.hf.decoder import Decoder
from loaders.logits import Floats


class TransformersDecoder(Decoder):
    """A causal model that transformers runs."""

    def __init__(self, model: Any, n_ctx: int, n_vocab: int) -> None:
        super().__init__()
        self._model = model
        self._caches: dict[int, Any] = {}
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.n_ctx = n_ctx
        self.n_vocab = n_vocab

    def _forward(self, branch: int, ids: Sequence[int], keep: int) -> Floats:
        cache = self._caches.get(branch)
        if cache is None:
            cache = DynamicCache(config=self._model.config)
        more = {"logits_to_keep": max(keep, 1)} if self._keeps else {}
        with torch.inference_mode():
            out = self._model(
                input_ids=torch.tensor([list(ids)], device=self._model.device),
                past_key_values=cache,
                use_cache=True,
                return_dict=True,
                **more,
            )
        self._caches[branch] = out.past_key_values
        if not keep:
            return np.zeros((0, self.n_vocab), np.float32)
        rows: Floats = out.logits[0, -keep:, : self.n_vocab].float().cpu().numpy()
        return rows

    def _cut(self, branch: int, length: int) -> bool:
        cache = self._caches.get(branch)
        if cache is None or length == 0:
            return False
        try:
            cache.crop(length - len(self.held(branch)))  # as many tokens fewer: all versions read it so
        except (RuntimeError, ValueError, NotImplementedError, AttributeError):  # a window moved on, a recurrent state
            return False
        return bool(cache.get_seq_length() == length)

    def _empty(self, branch: int) -> None:
        self._caches.pop(branch, None)

    def close(self) -> None:
        super().close()
        self._model = None
