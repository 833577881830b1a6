"""A folder on the graphics cards, as the floors above see it: the contract of `loaders.base.Model` over the engine."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from errors import PromptTooLong, Unsupported
from loaders.base import Lora
from loaders.exllamav2.adapters import sensible
from loaders.exllamav2.engine import Engine
from loaders.exllamav2.native import Weights
from loaders.exllamav2.options import ExLlamaV2Options
from loaders.hf.tokenizer import FolderTokenizer
from loaders.job import Job, Scoring
from loaders.queued import QueuedModel

#: Knobs that this loader does not honour, and why.
UNSUPPORTED: Mapping[str, str] = {
    "penalty_alpha": "Contrastive search needs hidden states of many candidates: load the model with Transformers.",
    **dict.fromkeys(
        ("num_beams", "length_penalty", "early_stopping"), "Beam search is for models of the Transformers loader."
    ),
    "prompt_lookup_num_tokens": "ExLlamaV2 looks ahead with the load option ngram_draft instead.",
    "grammar_string": "GBNF grammars need llama.cpp: load a GGUF version of the model.",
}


class ExLlamaV2Model(QueuedModel):
    """One model, one generator, one engine."""

    loader = "ExLlamav2"
    _engine: Engine

    def __init__(
        self,
        name: str,
        weights: Weights,
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
            self.unsupported = {**UNSUPPORTED, "lora": "LoRA adapters do not act where enable_tp spreads the layers."}
        self._weights = weights
        self._closing = threading.Lock()
        self._engine = Engine(weights, tokenizer, tokenizer.end_ids, options.parallel, options.cache())

    def set_loras(self, loras: Sequence[Lora]) -> None:
        """Waits for the requests that came before. Raises: AdapterUnfit, Unsupported, ModelClosed."""
        if loras and not self.supports("lora"):
            raise Unsupported(self.unsupported["lora"])
        loras = sensible(loras)
        self._engine.set_loras(loras)
        self.loras = tuple(loras)

    def _check_room(self, job: Job) -> None:
        # a reply's room is the engine's to know: it depends on pages
        if isinstance(job, Scoring) and len(job.request.ids) > self.context_length:
            raise PromptTooLong(len(job.request.ids), self.context_length)

    def close(self) -> None:
        """Ends all requests and gives the cards' memory back. Calling it again does nothing."""
        with self._closing:
            self._engine.close()
            self._weights.close()
