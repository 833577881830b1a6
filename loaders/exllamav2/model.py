"""The contract of `loaders.base.Model` for a folder on GPUs, over the engine."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from errors import PromptTooLong, Unsupported
from loaders.base import Lora
from loaders.engine.engine_model import QueuedModel
from loaders.exllamav2.adapters import resolve_paths
from loaders.exllamav2.engine import ExLlamaV2Engine
from loaders.exllamav2.native import ExLlamaV2Weights
from loaders.exllamav2.options import ExLlamaV2Options
from loaders.hf_common.tokenizer import FolderTokenizer
from loaders.job import Job, ScoreRequest

#: Knobs that this loader does not honour, and why.
UNSUPPORTED: Mapping[str, str] = {
    "penalty_alpha": "Contrastive search needs hidden states of many candidates. Load the model with Transformers.",
    **dict.fromkeys(("num_beams", "length_penalty", "early_stopping"), "Beam search requires the Transformers loader."),
    "prompt_lookup_num_tokens": "ExLlamaV2 has the load option ngram_draft instead.",
    "grammar_string": "GBNF grammars require llama.cpp. Load a GGUF version of the model.",
    "work_ahead": "ExLlamaV2 chooses by itself which chats it drops from its cache, so nothing is computed ahead.",
}


class ExLlamaV2Model(QueuedModel):
    """One model, one generator, one engine."""

    loader = "ExLlamav2"
    _engine: ExLlamaV2Engine

    def __init__(
        self,
        name: str,
        weights: ExLlamaV2Weights,
        tokenizer: FolderTokenizer,
        options: ExLlamaV2Options,
        notes: Sequence[str],
        memory: int,
    ) -> None:
        super().__init__()
        self.name = name
        self.tokenizer: FolderTokenizer = tokenizer
        self.context_length = weights.context_length
        self.options: ExLlamaV2Options = options
        self.notes = tuple(notes)
        self.memory = memory
        self.unsupported: Mapping[str, str] = dict(UNSUPPORTED)
        if options.enable_tp:
            self.unsupported = {**UNSUPPORTED, "lora": "LoRA adapters have no effect with enable_tp."}
        self._weights = weights
        self._closing = threading.Lock()
        self._engine = ExLlamaV2Engine(
            weights, tokenizer, tokenizer.end_ids, options.parallel, options.choose_cache_type()
        )

    def set_loras(self, loras: Sequence[Lora]) -> None:
        """Waits for earlier requests. Raises: IncompatibleAdapter, Unsupported, ModelClosed."""
        if loras and not self.supports("lora"):
            raise Unsupported(self.unsupported["lora"])
        loras = resolve_paths(loras)
        self._between_requests(lambda: self._engine.change_loras(loras), label="changing adapters")
        self.loras = tuple(loras)

    def _check_room(self, job: Job) -> None:
        if isinstance(job, ScoreRequest):
            if len(job.request.ids) > self.context_length:
                raise PromptTooLong(len(job.request.ids), self.context_length)
        elif (room := self._engine.room(job.prompts)) < 1:
            tokens = sum(len(ids) for ids in job.prompts)
            raise PromptTooLong(tokens, max(tokens + room - 1, 0))

    def close(self) -> None:
        """Ends all requests and frees the GPUs' memory. Calling it again does nothing."""
        with self._closing:
            self._engine.close()
            self._weights.close()
