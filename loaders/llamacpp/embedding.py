"""Embeddings from the weights that are in memory anyway: a second context, made when it is asked for, as large as the
texts need, and given back after a minute without a request.

The engine's context cannot do both: one that pools computes no logits. Texts go one after the other; a lock keeps
callers apart, and the engine's thread is not touched.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from errors import (
    Cancelled,
    EmptyPrompt,
    EngineFailed,
    InvalidToken,
    ModelClosed,
    ModelFileError,
    PromptTooLong,
    Unavailable,
)
from loaders.llamacpp import embedding_size
from loaders.llamacpp.library import C
from loaders.llamacpp.native import Batch, Context, Floats, Weights, give_back

_IDLE = 60.0  # seconds after which the context is given back


class Embedder:
    """Makes vectors. May be used from several threads."""

    def __init__(self, weights: Weights, *, n_ctx: int, threads: int, **params: Any) -> None:
        """`params`: further fields of llama_context_params, as the engine's context has them."""
        self._weights = weights
        self._params = params
        self._n_ctx = n_ctx
        self._longest = embedding_size.longest(n_ctx)
        self._threads = threads
        self._lock = threading.Lock()
        self._context: Context | None = None
        self._batch = Batch(0)
        self._pooling = C.LLAMA_POOLING_TYPE_UNSPECIFIED
        self._used = 0  # counts the uses, so that an old alarm does not end a context in use
        self._alarm: threading.Timer | None = None
        self._closed = False

    def embed(self, texts: Sequence[Sequence[int]], cancel: threading.Event | None) -> npt.NDArray[np.float32]:
        """Raises: EmptyPrompt, PromptTooLong, InvalidToken, ModelClosed, Cancelled, EngineFailed, Unavailable."""
        for ids in texts:
            if not ids:
                raise EmptyPrompt
            if len(ids) > self._longest:
                raise PromptTooLong(len(ids), self._longest, "A text for a vector may have no more: split it.")
            for token in (min(ids), max(ids)):
                if not 0 <= token < self._weights.n_vocab:
                    raise InvalidToken(token, self._weights.n_vocab)
        size = embedding_size.step(max(map(len, texts), default=1), self._n_ctx)
        try:
            return np.stack([self._one(ids, size, cancel) for ids in texts])
        finally:
            self._set_alarm()

    def _one(self, ids: Sequence[int], size: int, cancel: threading.Event | None) -> npt.NDArray[np.float32]:
        with self._lock:
            if self._closed:
                raise ModelClosed
            if cancel and cancel.is_set():
                raise Cancelled
            self._used += 1
            context, batch = self._opened(size), self._batch
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

    def _opened(self, size: int) -> Context:
        """The context, of at least so many tokens. Raises: Unavailable."""
        if self._context and self._batch.capacity >= size:
            return self._context
        self._give_back()
        try:
            made = self._make(size)
            if self._pooling == C.LLAMA_POOLING_TYPE_UNSPECIFIED:
                own = C.llama_pooling_type(made.pointer)
                # a model that was made to write has none of its own
                self._pooling = C.LLAMA_POOLING_TYPE_MEAN if own == C.LLAMA_POOLING_TYPE_NONE else own
                if self._pooling != own:
                    made.close()
                    made = self._make(size)
        except ModelFileError as error:
            said = str(error).rpartition("llama.cpp says: ")[2].rstrip(".")
            raise Unavailable(
                f"There is no room for embeddings of texts of up to {size} tokens beside the model ({said}). Shorter "
                "texts need less; a model with fewer layers on the graphics card, or a smaller n_ctx, leaves more."
            ) from None
        self._context, self._batch = made, Batch(size)
        return made

    def _make(self, size: int) -> Context:
        return Context(
            self._weights,
            **embedding_size.fields(size, self._n_ctx),
            pooling_type=self._pooling,
            n_threads=self._threads,
            n_threads_batch=self._threads,
            **self._params,
        )

    def _set_alarm(self) -> None:
        """Give the context back, should nobody ask for a while."""
        with self._lock:
            if self._alarm:
                self._alarm.cancel()
            if self._closed or self._context is None:
                return
            self._alarm = threading.Timer(_IDLE, self._idle, (self._used,))
            self._alarm.daemon = True
            self._alarm.start()

    def _idle(self, used: int) -> None:
        with self._lock:
            if used == self._used:
                self._give_back()

    def _give_back(self) -> None:
        if self._context:
            self._context.close()
            self._context = None
            give_back()

    def close(self) -> None:
        """Wait for who is computing, and give the memory back."""
        with self._lock:
            self._closed = True
            if self._alarm:
                self._alarm.cancel()
            self._give_back()
