"""ExLlamaV2 as a decoder and as a PreTrainedModel: the basis of ExLlamav2_HF.

Two branches: the prompt's cache is that of the weights, the negative prompt's is created when first needed. It must not
know of requests or the contract of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PretrainedConfig

from loaders.exllamav2.native import ROWS, ExLlamaV2Weights, make_cache
from loaders.exllamav2.options import Bits
from loaders.hf_common.decoder import Decoder
from loaders.hf_common.pretrained import DecoderForCausalLM
from loaders.logits import Floats


class ExLlamaV2Decoder(Decoder):
    """Weights on GPUs, decoded one sequence at a time."""

    def __init__(self, weights: ExLlamaV2Weights, kind: Bits, n_vocab: int, *, cfg_cache: bool = False) -> None:
        """`cfg_cache`: create the negative prompt's cache at once."""
        super().__init__()
        self._weights = weights
        self._kind = kind
        self._caches: dict[int, Any] = {0: weights.cache}
        self.loras: Any = None
        self.n_ctx = weights.context_length
        self.n_vocab = n_vocab
        self.piece = int(weights.config.max_input_len)
        if cfg_cache:
            self._cache(1)

    def _cache(self, branch: int) -> Any:
        if branch not in self._caches:
            self._caches[branch] = make_cache(self._weights.model, self._kind, self.n_ctx)
        return self._caches[branch]

    def _forward(self, branch: int, ids: Sequence[int], keep: int) -> Floats:
        cache, found = self._cache(branch), []
        cache.current_seq_len = len(self.cached_ids(branch))
        at, first = 0, len(ids) - keep
        with torch.inference_mode():
            while at < len(ids):
                end = min(at + self.piece, first) if at < first else min(at + ROWS, len(ids))
                piece = torch.tensor([list(ids[at:end])], dtype=torch.long)
                logits = self._weights.model.forward(piece, cache, preprocess_only=at < first, loras=self.loras)
                if at >= first:
                    found.append(logits[0, :, : self.n_vocab].float().cpu().numpy())
                at = end
        return np.concatenate(found) if found else np.zeros((0, self.n_vocab), np.float32)

    def _truncate(self, branch: int, length: int) -> bool:  # noqa: ARG002
        return True  # the next forward pass says where it begins

    def _empty(self, branch: int) -> None: ...

    def close(self) -> None:
        super().close()
        self._caches.clear()
        self.loras = None


class ExLlamaV2ForCausalLM(DecoderForCausalLM):
    """Weights on GPUs behind transformers' interface. Closing the weights is up to their owner."""

    def __init__(
        self, config: PretrainedConfig, weights: ExLlamaV2Weights, kind: Bits, *, cfg_cache: bool = False
    ) -> None:
        super().__init__(config, ExLlamaV2Decoder(weights, kind, config.vocab_size, cfg_cache=cfg_cache))
