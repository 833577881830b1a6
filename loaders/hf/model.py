"""A decoder as the floors above see it: the contract of `loaders.base.Model`, the same for all HF loaders."""

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
from loaders.grammar.follow import Grammars
from loaders.hf.decoder import Decoder
from loaders.hf.engine import Engine, Search
from loaders.job import Errand, Job, Scoring
from loaders.params import LoadOptions
from loaders.queued import QueuedModel

EMBEDDINGS = "This loader makes no embeddings: load a GGUF version of the model with llama.cpp."


@dataclass(frozen=True)
class Backend:
    """What differs from loader to loader.

    `pretrained` is the PreTrainedModel that transformers' own `generate` takes; `set_loras` applies adapters on the
    engine's thread; `explain` turns a backend's errors into ours where it knows them; `release` gives the memory back.
    `unsupported` is as in the contract.
    """

    decoder: Decoder
    pretrained: Any
    release: Callable[[], None]
    search: Search | None = None
    set_loras: Callable[[Sequence[Lora]], None] | None = None
    explain: Callable[[Exception], UserError | None] = lambda _: None
    unsupported: Mapping[str, str] = field(default_factory=dict)


class HFModel(QueuedModel):
    """One decoder, one engine. Requests are answered in order; what they share with the last one is not read again."""

    _engine: Engine

    def __init__(
        self,
        name: str,
        loader: str,
        backend: Backend,
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
        self._grammars = Grammars(tokenizer, end_ids)
        self._engine = Engine(
            backend.decoder,
            tokenizer,
            end_ids,
            name=loader,
            grammar=self._grammars.of,
            search=backend.search,
            explain=backend.explain,
        )

    @property
    def pretrained(self) -> Any:
        """The PreTrainedModel. Only while no request runs: it has the same caches."""
        return self._backend.pretrained

    def grammar_start(self, grammar: str) -> npt.NDArray[np.bool_]:
        return self._grammars.start(grammar)

    def set_loras(self, loras: Sequence[Lora]) -> None:
        """Takes its place in the queue: what was asked for before it is answered without it."""
        if self._backend.set_loras is None:
            if loras:
                raise Unsupported(self.unsupported.get("lora", f"{self.loader} cannot apply LoRA adapters."))
            return
        wanted = tuple(Lora(Path(lora.path).resolve(), lora.scale) for lora in loras)
        change = self._backend.set_loras

        def do() -> None:
            change(wanted)
            self.loras = wanted

        errand = Errand(do, label="changing adapters")
        self._engine.submit(errand)
        self._wait(errand)

    def _check_room(self, job: Job) -> None:
        most = self.context_length - (0 if isinstance(job, Scoring) else 1)
        for ids in job.prompts:
            if len(ids) > most:
                raise PromptTooLong(len(ids), most)
        lengths = [len(ids) for ids in job.prompts]
        if len(lengths) > 1 and self._backend.decoder.room(lengths) < 1:  # prompt and negative prompt share it
            raise PromptTooLong(sum(lengths), most)

    def close(self) -> None:
        """Ends all requests and gives the memory back. Calling it again does nothing."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._grammars.close()
            self._engine.close()
            self._backend.decoder.close()
            self._backend.release()
