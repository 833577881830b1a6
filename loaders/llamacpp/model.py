"""A GGUF in memory, as the floors above see it: the contract of `loaders.base.Model` over the engine."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from errors import EmptyPrompt, InvalidToken, PromptTooLong
from loaders.base import Model, Request, TokenStream
from loaders.llamacpp.engine import Engine
from loaders.llamacpp.job import Job
from loaders.llamacpp.native import Context, Weights
from loaders.llamacpp.options import LlamaCppOptions
from loaders.llamacpp.sampling import UNSUPPORTED
from loaders.llamacpp.tokenizer import LlamaTokenizer


class LlamaCppModel(Model):
    """One model, one context, one engine."""

    loader = "llama.cpp"
    unsupported: Mapping[str, str] = UNSUPPORTED

    def __init__(
        self,
        name: str,
        weights: Weights,
        context: Context,
        tokenizer: LlamaTokenizer,
        options: LlamaCppOptions,
        notes: Sequence[str],
    ) -> None:
        self.name = name
        self.tokenizer: LlamaTokenizer = tokenizer
        self.context_length = context.n_ctx
        self.options = options
        self.notes = tuple(notes)
        self._weights = weights
        self._context = context
        self._closing = threading.Lock()
        self._engine = Engine(weights, context, tokenizer, parallel=options.parallel, n_batch=options.n_batch)

    def generate(self, request: Request) -> TokenStream:
        """Raises: EmptyPrompt, PromptTooLong, InvalidToken, ModelClosed."""
        if not request.ids:
            raise EmptyPrompt
        for token in (min(request.ids), max(request.ids)):
            if not 0 <= token < self.tokenizer.n_vocab:
                raise InvalidToken(token, self.tokenizer.n_vocab)
        if len(request.ids) >= self.context_length:
            raise PromptTooLong(len(request.ids), self.context_length - 1)
        job = Job(request)
        self._engine.submit(job)
        return job

    def close(self) -> None:
        """Ends all requests and frees context and weights. Calling it again does nothing."""
        with self._closing:
            self._engine.close()
            self._context.close()
            self._weights.close()
