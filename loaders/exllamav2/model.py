"""A folder on the graphics cards, as the floors above see it: the contract of `loaders.base.Model` over the engine."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from errors import Cancelled, EmptyPrompt, InvalidInput, InvalidToken, PromptTooLong, Unsupported
from loaders.base import Finish, Lora, Model, QueueEntry, Request, TokenStream
from loaders.exllamav2.adapters import sensible
from loaders.exllamav2.engine import Engine
from loaders.exllamav2.native import Weights
from loaders.exllamav2.options import ExLlamaV2Options
from loaders.exllamav2.tokenizer import FolderTokenizer
from loaders.llamacpp.job import Job, Probe, Scoring

#: Knobs that this loader does not honour, and why.
UNSUPPORTED: Mapping[str, str] = {
    "penalty_alpha": "Contrastive search needs hidden states of many candidates: load the model with Transformers.",
    **dict.fromkeys(
        ("num_beams", "length_penalty", "early_stopping"), "Beam search is for models of the Transformers loader."
    ),
    "prompt_lookup_num_tokens": "ExLlamaV2 looks ahead with the load option ngram_draft instead.",
    "grammar_string": "GBNF grammars need llama.cpp: load a GGUF version of the model.",
}


class ExLlamaV2Model(Model):
    """One model, one generator, one engine."""

    loader = "ExLlamav2"

    def __init__(
        self,
        name: str,
        weights: Weights,
        tokenizer: FolderTokenizer,
        options: ExLlamaV2Options,
        notes: Sequence[str],
        memory: int,
    ) -> None:
        self.name = name
        self.tokenizer: FolderTokenizer = tokenizer
        self.context_length = weights.context_length
        self.options: ExLlamaV2Options = options
        self.notes = tuple(notes)
        self.memory = memory
        self.unsupported: Mapping[str, str] = dict(UNSUPPORTED)
        if options.enable_tp:
            self.unsupported = {**UNSUPPORTED, "lora": "LoRA adapters do not act where enable_tp spreads the layers."}
        self._weights = weights
        self._closing = threading.Lock()
        self._engine = Engine(weights, tokenizer, tokenizer.end_ids, options.parallel, options.cache())

    def generate(self, request: Request) -> TokenStream:
        """Raises: EmptyPrompt, PromptTooLong, InvalidToken, Unsupported, ModelClosed."""
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

    def score(self, ids: Sequence[int], cancel: threading.Event | None = None) -> npt.NDArray[np.float32]:
        if len(ids) < 2:
            return np.zeros(0, np.float32)
        scoring = Scoring(Request(ids, cancel=cancel or threading.Event(), label="scoring"))
        self._submit(scoring)
        self._wait(scoring)
        return scoring.logprobs

    def set_loras(self, loras: Sequence[Lora]) -> None:
        """Waits for the requests that came before. Raises: AdapterUnfit, Unsupported, ModelClosed."""
        if loras and not self.supports("lora"):
            raise Unsupported(self.unsupported["lora"])
        loras = sensible(loras)
        self._engine.set_loras(loras)
        self.loras = tuple(loras)

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
        if isinstance(job, Scoring) and len(request.ids) > self.context_length:
            raise PromptTooLong(len(request.ids), self.context_length)
        self._engine.submit(job)

    def _wait(self, job: Job) -> None:
        """Until a job without a reply is done. Raises its error."""
        for _ in job:
            pass
        if job.report.finish is Finish.CANCELLED:
            raise Cancelled

    def close(self) -> None:
        """Ends all requests and gives the cards' memory back. Calling it again does nothing."""
        with self._closing:
            self._engine.close()
            self._weights.close()
