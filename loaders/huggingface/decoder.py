"""A transformers model as a decoder: with its own cache per branch, as far as it can be reused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from loaders.hf_common.decoder import Decoder
from loaders.huggingface.cache import TransformersCache
from loaders.huggingface.cache_probe import Continuation
from loaders.logits import Floats


class TransformersDecoder(Decoder):
    """A causal model that transformers runs."""

    def __init__(self, model: Any, n_ctx: int, n_vocab: int, continuation: Continuation | None = None) -> None:
        """`continuation` says how the model can continue from its cache; without it, with any number of tokens."""
        super().__init__()
        self._model = model
        self._caches: dict[int, TransformersCache] = {}
        self._how = how = continuation or Continuation()
        self.follow, self.cuts = how.follow, how.cuts
        self.n_ctx = n_ctx
        self.n_vocab = n_vocab

    def _forward(self, branch: int, ids: Sequence[int], keep: int) -> Floats:
        cache = self._caches.get(branch)
        if cache is None:
            cache = self._caches[branch] = TransformersCache(self._model, keeps=self.follow != 0, way=self._how.way)
        logits = cache.read(ids, max(keep, 1))
        if not keep:
            return np.zeros((0, self.n_vocab), np.float32)
        rows: Floats = logits[0, -keep:, : self.n_vocab].float().cpu().numpy()
        return rows

    def _truncate(self, branch: int, length: int) -> bool:
        cache = self._caches.get(branch)
        if cache is None or length == 0 or not self._how.cuts:
            return False
        return cache.cut(length)

    def _empty(self, branch: int) -> None:
        self._caches.pop(branch, None)

    def close(self) -> None:
        super().close()
        self._model = None
