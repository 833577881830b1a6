"""A GGUF in memory, as the floors above see it: the contract of `loaders.base.Model` over the engine."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from errors import Cancelled, EmptyPrompt, InvalidInput, InvalidToken, PromptTooLong
from loaders.base import Finish, Lora, Model, QueueEntry, Request, TokenStream
from loaders.llamacpp.adapters import Adapters
from loaders.llamacpp.embedding import Embedder
from loaders.llamacpp.engine import Engine, Limits
from loaders.llamacpp.job import Errand, Job, Probe, Scoring
from loaders.llamacpp.native import Context, Weights, give_back
from loaders.llamacpp.options import LlamaCppOptions
from loaders.llamacpp.sampling import UNSUPPORTED, Grammar
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
        limits: Limits,
        notes: Sequence[str],
        memory: int,
    ) -> None:
        self.name = name
        self.tokenizer: LlamaTokenizer = tokenizer
        self.context_length = context.n_ctx
        self.options: LlamaCppOptions = options
        self.notes = tuple(notes)
        self.memory = memory
        self._weights = weights
        self._context = context
        self._closing = threading.Lock()
        self._adapters = Adapters(weights, context)
        self._embedder = Embedder(weights, n_ctx=context.n_ctx, threads=options.threads_batch or options.threads or 0)
        self._engine = Engine(weights, context, tokenizer, limits)

    def generate(self, request: Request) -> TokenStream:
        """Raises: EmptyPrompt, PromptTooLong, InvalidToken, ModelClosed."""
        job = Job(request)
        if request.max_tokens < 1:
            job.end(Finish.LENGTH)
        else:
            self._submit(job)
        return job

    def next_logits(self, request: Request) -> npt.NDArray[np.float32]:
        probe = Probe(request)
        self._submit(probe)
        self._wait(probe)
        assert probe.logits is not None
        return probe.logits

    def grammar_start(self, grammar: str) -> npt.NDArray[np.bool_]:
        with self.tokenizer.looking():
            started = Grammar(self._weights.vocab, self.tokenizer.n_vocab, grammar)
            try:
                return started.allowed()
            finally:
                started.close()

    def score(self, ids: Sequence[int], cancel: threading.Event | None = None) -> npt.NDArray[np.float32]:
        if len(ids) < 2:
            return np.zeros(0, np.float32)
        scoring = Scoring(Request(ids, cancel=cancel or threading.Event(), label="scoring"))
        self._submit(scoring)
        self._wait(scoring)
        return scoring.logprobs

    def set_loras(self, loras: Sequence[Lora]) -> None:
        """Takes its place in the queue: what was asked for before it is answered without it."""
        errand = Errand(lambda: self._change_loras(tuple(loras)), label="changing adapters")
        self._engine.submit(errand)
        self._wait(errand)

    def _change_loras(self, wanted: tuple[Lora, ...]) -> None:
        self._adapters.set(wanted)
        self.loras = wanted

    def embed(self, texts: Sequence[Sequence[int]], cancel: threading.Event | None = None) -> npt.NDArray[np.float32]:
        return self._embedder.embed(texts, cancel)

    def queue(self) -> Sequence[QueueEntry]:
        running, waiting = self._engine.jobs()
        return [
            QueueEntry(
                id=job.request.id,
                label=job.request.label,
                place=place,
                prompt_tokens=job.report.prompt_tokens,
                new_tokens=job.report.new_tokens,
                tokens_per_second=job.tokens_per_second,
                cancel=job.request.cancel,
            )
            for place, job in [*((0, job) for job in running), *enumerate(waiting, 1)]
        ]

    def _submit(self, job: Job) -> None:
        request = job.request
        if request.alternatives is not None and request.alternatives < 0:
            raise InvalidInput("The number of alternatives per token is 0 or more.")
        if not request.ids:
            raise EmptyPrompt
        for ids in job.prompts:
            for token in (min(ids), max(ids)):
                if not 0 <= token < self.tokenizer.n_vocab:
                    raise InvalidToken(token, self.tokenizer.n_vocab)
            if len(ids) >= self.context_length:
                raise PromptTooLong(len(ids), self.context_length - 1)
        if sum(len(ids) + 1 for ids in job.prompts) > self.context_length and not self.options.separate_contexts:
            raise PromptTooLong(sum(len(ids) for ids in job.prompts), self.context_length - len(job.prompts))
        self._engine.submit(job)

    def _wait(self, job: Job) -> None:
        """Until a job without a reply is done. Raises its error."""
        for _ in job:
            pass
        if job.report.finish is Finish.CANCELLED:
            raise Cancelled

    def close(self) -> None:
        """Ends all requests and frees context and weights. Calling it again does nothing."""
        with self._closing:
            self._embedder.close()
            self._engine.close()
            self.tokenizer.close()
            self._context.close()
            self._adapters.close()
            self._weights.close()
            give_back()
