"""Computes embeddings with the loaded weights: in a second context, created on request, as large as the texts need, and
freed after a minute without a request.

The engine's context cannot do both: a context that pools computes no logits. Texts are processed one after the other; a
lock separates callers, and the engine's thread is not involved.
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
from loaders.heap import trim_heap
from loaders.llamacpp import embedding_size, openmp
from loaders.llamacpp.batch import LlamaBatch
from loaders.llamacpp.library import C
from loaders.llamacpp.native import Floats, LlamaContext, LlamaWeights
from loaders.llamacpp.thread_control import ThreadControl

_IDLE = 60.0  # seconds after which the context is freed


class Embedder:
    """Computes embeddings. May be used from several threads."""

    def __init__(self, weights: LlamaWeights, *, n_ctx: int, threads: int, **params: Any) -> None:
        """`params`: further fields of llama_context_params, as in the engine's context."""
        self._weights = weights
        self._params = params
        self._n_ctx = n_ctx
        self._longest = embedding_size.max_embedding_tokens(n_ctx)
        self._most_threads = threads
        self._threads = ThreadControl([])
        self._lock = threading.Lock()
        self._context: LlamaContext | None = None
        self._batch = LlamaBatch(0)
        self._pooling = C.LLAMA_POOLING_TYPE_UNSPECIFIED
        self._used = 0  # counts the uses, so that an old timer does not free a context in use
        self._alarm: threading.Timer | None = None
        self._closed = False

    def embed(self, texts: Sequence[Sequence[int]], cancel: threading.Event | None) -> npt.NDArray[np.float32]:
        """Raises: EmptyPrompt, PromptTooLong, InvalidToken, ModelClosed, Cancelled, EngineFailed, Unavailable."""
        for ids in texts:
            if not ids:
                raise EmptyPrompt
            if len(ids) > self._longest:
                raise PromptTooLong(len(ids), self._longest, "Split the text: it exceeds the limit for embeddings.")
            for token in (min(ids), max(ids)):
                if not 0 <= token < self._weights.n_vocab:
                    raise InvalidToken(token, self._weights.n_vocab)
        size = embedding_size.embedding_context_size(max(map(len, texts), default=1), self._n_ctx)
        try:
            return openmp.run_in_short_thread(lambda: self._all(texts, size, cancel))
        finally:
            self._set_alarm()

    def _all(
        self, texts: Sequence[Sequence[int]], size: int, cancel: threading.Event | None
    ) -> npt.NDArray[np.float32]:
        self._threads.begin()
        return np.stack([self._one(ids, size, cancel) for ids in texts])

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
            self._threads.adapt(len(ids))
            with context.stop.unless(lambda: not (self._closed or (cancel and cancel.is_set()))):
                code = context.decode(batch)
            if code == 2:
                raise ModelClosed if self._closed else Cancelled
            if code:
                raise EngineFailed(f"llama.cpp could not compute the embedding (code {code}).")
            pointer = C.llama_get_embeddings_seq(context.pointer, 0)
            if not pointer:
                raise EngineFailed("llama.cpp does not support embeddings for this model.")
            vector: Floats = np.ctypeslib.as_array(pointer, (C.llama_model_n_embd_out(self._weights.pointer),)).copy()
        length = float(np.linalg.norm(vector))
        if not np.isfinite(length):
            raise EngineFailed("the embedding contains NaN values.")
        vector /= length or 1.0
        return vector

    def _opened(self, size: int) -> LlamaContext:
        """The context, for at least this many tokens. Raises: Unavailable."""
        if self._context and self._batch.capacity >= size:
            return self._context
        self._give_back()
        try:
            made = self._make(size)
            if self._pooling == C.LLAMA_POOLING_TYPE_UNSPECIFIED:
                own = C.llama_pooling_type(made.pointer)
                # a text generation model has no pooling type of its own
                self._pooling = C.LLAMA_POOLING_TYPE_MEAN if own == C.LLAMA_POOLING_TYPE_NONE else own
                if self._pooling != own:
                    made.close()
                    made = self._make(size)
        except ModelFileError as error:
            said = str(error).rpartition("llama.cpp says: ")[2].rstrip(".")
            raise Unavailable(
                f"Not enough memory for embeddings of up to {size} tokens next to the model ({said}). Use shorter "
                "texts, or load the model with fewer GPU layers or a smaller n_ctx."
            ) from None
        self._context, self._batch, self._threads = made, LlamaBatch(size), ThreadControl([made])
        return made

    def _make(self, size: int) -> LlamaContext:
        return LlamaContext(
            self._weights,
            **embedding_size.embedding_context_params(size, self._n_ctx),
            pooling_type=self._pooling,
            n_threads=self._most_threads,
            n_threads_batch=self._most_threads,
            **self._params,
        )

    def _set_alarm(self) -> None:
        """Free the context if nobody uses it for a while."""
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
            trim_heap()

    def close(self) -> None:
        """Cancel a running computation and free the memory."""
        self._closed = True  # without the lock: a running computation holds it
        with self._lock:
            if self._alarm:
                self._alarm.cancel()
            self._give_back()
