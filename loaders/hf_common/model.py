"""The contract of `loaders.base.Model` over a decoder, the same for all HF loaders."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from errors import PromptTooLong, Unsupported, UserError
from loaders.base import Lora, Tokenizer
from loaders.engine.engine_model import QueuedModel
from loaders.grammar.matcher import GrammarEngine
from loaders.hf_common.decoder import Decoder
from loaders.hf_common.engine import SearchStrategy, SequentialEngine
from loaders.job import Job, ScoreRequest
from loaders.params import LoadOptions

EMBEDDINGS = "This loader does not support embeddings. Load a GGUF version of the model with llama.cpp."


@dataclass(frozen=True)
class HFBackend:
    """What differs between the loaders.

    `pretrained` is the PreTrainedModel for transformers' own `generate`; `set_loras` applies adapters on the engine's
    thread; `explain` converts a backend's errors to ours if it knows them; `release` frees the memory. `unsupported`
    and `warning` are as in the contract.
    """

    decoder: Decoder
    pretrained: Any
    release: Callable[[], None]
    search: SearchStrategy | None = None
    set_loras: Callable[[Sequence[Lora]], None] | None = None
    explain: Callable[[Exception], UserError | None] = lambda _: None
    warning: Callable[[], str] = lambda: ""
    unsupported: Mapping[str, str] = field(default_factory=dict)


class HFModel(QueuedModel):
    """One decoder, one engine. Requests are answered in order; their common prefix with the previous one is not read
    again.
    """

    _engine: SequentialEngine

    def __init__(
        self,
        name: str,
        loader: str,
        backend: HFBackend,
        tokenizer: Tokenizer,
        end_ids: frozenset[int],
        options: LoadOptions,
        notes: Sequence[str] = (),
        memory: int = 0,
    ) -> None:
        super().__init__()
        self.name = name
        self.loader = loader
        self.tokenizer = tokenizer
        self.context_length = backend.decoder.n_ctx
        self.options = options
        self.notes = tuple(notes)
        self.memory = memory
        self.unsupported: Mapping[str, str] = {"embeddings": EMBEDDINGS, **backend.unsupported}
        self._backend = backend
        self._closing = threading.Lock()
        self._closed = False
        self._grammars = GrammarEngine(tokenizer, end_ids)
        self._engine = SequentialEngine(
            backend.decoder,
            tokenizer,
            end_ids,
            name=loader,
            grammars=self._grammars,
            search=backend.search,
            explain=backend.explain,
        )

    @property
    def pretrained(self) -> Any:
        """The PreTrainedModel. Only while no request runs: it uses the same caches."""
        return self._backend.pretrained

    def grammar_start(self, grammar: str) -> npt.NDArray[np.bool_]:
        return self._grammars.start(grammar)

    def set_loras(self, loras: Sequence[Lora]) -> None:
        """Waits in the queue: earlier requests are answered without the change."""
        if self._backend.set_loras is None:
            if loras:
                raise Unsupported(self.unsupported.get("lora", f"{self.loader} does not support LoRA adapters."))
            return
        wanted = tuple(Lora(Path(lora.path).resolve(), lora.scale).as_stored() for lora in loras)
        change = self._backend.set_loras

        def do() -> None:
            change(wanted)
            self.loras = wanted

        self._between_requests(do, label="changing adapters")

    def warning(self) -> str:
        return self._backend.warning()

    def _check_room(self, job: Job) -> None:
        most = self.context_length - (0 if isinstance(job, ScoreRequest) else 1)
        for ids in job.prompts:
            if len(ids) > most:
                raise PromptTooLong(len(ids), most)
        lengths = [len(ids) for ids in job.prompts]
        if len(lengths) > 1 and self._backend.decoder.room(lengths) < 1:  # prompt and negative prompt share it
            raise PromptTooLong(sum(lengths), most)

    def close(self) -> None:
        """Ends all requests and frees the memory. Calling it again does nothing."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._grammars.close()
            self._engine.close()
            self._backend.decoder.close()
            self._backend.release()
