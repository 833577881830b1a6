"""Embeddings from the weights that are in memory anyway: a second, small context that is made when first asked for.

The engine's context cannot do both: one that pools computes no logits. Texts go one after the other; a lock keeps
callers apart, and the engine's thread is not touched.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from errors import Cancelled, EmptyPrompt, EngineFailed, InvalidToken, ModelClosed, PromptTooLong
from loaders.llamacpp.library import C
from loaders.llamacpp.native import Batch, Context, Floats, Weights

#: The longest text, in tokens, and so the size of the context's buffers: a text is pooled in one step.
LONGEST = 2048


class Embedder:
    """Makes vectors. May be used from several threads."""

    def __init__(self, weights: Weights, *, n_ctx: int, threads: int, **params: Any) -> None:
        """`params`: further fields of llama_context_params, as the engine's context has them."""
        self._weights = weights
        self._params = params
        self._longest = min(n_ctx, LONGEST)
        self._threads = threads
        self._lock = threading.Lock()
        self._context: Context | None = None
        self._batch: Batch | None = None
        self._closed = False

    def embed(self, texts: Sequence[Sequence[int]], cancel: threading.Event | None) -> npt.NDArray[np.float32]:
        """Raises: EmptyPrompt, PromptTooLong, InvalidToken, ModelClosed, Cancelled, EngineFailed."""
        for ids in texts:
            if not ids:
                raise EmptyPrompt
            if len(ids) > self._longest:
                raise PromptTooLong(len(ids), self._longest)
            for token in (min(ids), max(ids)):
                if not 0 <= token < self._weights.n_vocab:
                    raise InvalidToken(token, self._weights.n_vocab)
        return np.stack([self._one(ids, cancel) for ids in texts])

    def _one(self, ids: Sequence[int], cancel: threading.Event | None) -> npt.NDArray[np.float32]:
        with self._lock:
            if self._closed:
                raise ModelClosed
            if cancel and cancel.is_set():
                raise Cancelled
            context, batch = self._opened()
            context.clear()
            batch.clear()
            batch.add(ids, 0, 0, last=True, all_rows=True)
            code = context.decode(batch)
            if code:
                raise EngineFailed(f"llama.cpp could not compute the embedding (code {code}).")
            pointer = C.llama_get_embeddings_seq(context.pointer, 0)
            if not pointer:
                raise EngineFailed("llama.cpp gives no embedding for this model.")
            vector: Floats = np.ctypeslib.as_array(pointer, (C.llama_model_n_embd_out(self._weights.pointer),)).copy()
        length = float(np.linalg.norm(vector))
        if not np.isfinite(length):
            raise EngineFailed("the embedding holds values that are not numbers.")
        vector /= length or 1.0
        return vector

    def _opened(self) -> tuple[Context, Batch]:
        if self._context is None or self._batch is None:
            self._batch = Batch(self._longest)
            self._context = self._make(C.LLAMA_POOLING_TYPE_UNSPECIFIED)
            if (
                C.llama_pooling_type(self._context.pointer) == C.LLAMA_POOLING_TYPE_NONE
            ):  # a model that was made to write
                self._context.close()
                self._context = self._make(C.LLAMA_POOLING_TYPE_MEAN)
        return self._context, self._batch

    def _make(self, pooling: int) -> Context:
        return Context(
            self._weights,
            n_ctx=self._longest,
            n_batch=self._longest,
            n_ubatch=self._longest,
            n_seq_max=1,
            embeddings=True,
            pooling_type=pooling,
            no_perf=True,
            n_threads=self._threads,
            n_threads_batch=self._threads,
            **self._params,
        )

    def close(self) -> None:
        """Wait for who is computing, and give the memory back."""
        with self._lock:
            self._closed = True
            if self._context:
                self._context.close()
                self._context = None
