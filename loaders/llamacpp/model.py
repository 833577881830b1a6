"""The contract of `loaders.base.Model` for a GGUF, over the engine."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil

from errors import PromptTooLong, Unsupported
from loaders.base import Lora
from loaders.engine.engine_model import QueuedModel
from loaders.grammar.matcher import GrammarEngine
from loaders.heap import trim_heap
from loaders.job import Job, ScoreRequest
from loaders.llamacpp import load_trial
from loaders.llamacpp.adapters import LlamaCppAdapters, check_adapter_file
from loaders.llamacpp.context_params import F16, attention_params
from loaders.llamacpp.draft_loading import LoadedDraft
from loaders.llamacpp.embedding import Embedder
from loaders.llamacpp.engine.disk_cache import DiskCache
from loaders.llamacpp.engine.draft_model import DraftModel
from loaders.llamacpp.engine.engine import BatchEngine
from loaders.llamacpp.engine.limits import EngineLimits
from loaders.llamacpp.engine.speculation import DraftOptions
from loaders.llamacpp.engine.threads import choose_threads
from loaders.llamacpp.mapped_files import MappedFiles
from loaders.llamacpp.native import LlamaContext, LlamaWeights
from loaders.llamacpp.options import LlamaCppOptions
from loaders.llamacpp.placement.memory_watch import MemoryWatch
from loaders.llamacpp.tokenizer import LlamaTokenizer

#: Knobs that this loader does not honour, and why.
UNSUPPORTED: Mapping[str, str] = {
    "penalty_alpha": "Contrastive search needs hidden states, which llama.cpp does not provide.",
    **dict.fromkeys(("num_beams", "length_penalty", "early_stopping"), "Beam search requires the Transformers loader."),
}


class LlamaCppModel(QueuedModel):
    """One model, one context, one engine."""

    loader = "llama.cpp"
    template_place = "the GGUF"
    _engine: BatchEngine
    unsupported: Mapping[str, str] = UNSUPPORTED

    def __init__(
        self,
        name: str,
        weights: LlamaWeights,
        context: LlamaContext,
        tokenizer: LlamaTokenizer,
        options: LlamaCppOptions,
        limits: EngineLimits,
        notes: Sequence[str],
        memory: int,
        only_embeds: str = "",
        watch: MemoryWatch | None = None,
        draft: LoadedDraft | None = None,
        disk: DiskCache | None = None,
    ) -> None:
        """`only_embeds`: why the model generates no text, "" if it does."""
        super().__init__()
        self.name = name
        self.tokenizer: LlamaTokenizer = tokenizer
        self.context_length = context.n_ctx
        self.options: LlamaCppOptions = options
        self.notes = tuple(notes)
        self.memory = memory
        self._only_embeds = only_embeds
        self._watch = watch
        self._draft = draft
        self._disk = disk
        self._weights = weights
        self._context = context
        self._closing = threading.Lock()
        self._mapped = MappedFiles(() if options.no_mmap else weights.paths)
        self._adapters = LlamaCppAdapters(weights, context)
        threads = options.threads_batch or choose_threads(options.threads)[0]
        self._embedder = Embedder(weights, n_ctx=context.n_ctx, threads=threads, **attention_params(options))
        self._grammars = GrammarEngine(tokenizer, tokenizer.end_ids)
        drafts = self._draft_options()
        if drafts and not context.can_cut:
            idle = [name for name, used in (("spec_type", options.spec_type != "none"), ("draft_model", draft)) if used]
            why = "has no effect: this model's cache cannot be truncated"
            self.notes = (*self.notes, *(f"{name} {why}" for name in idle))
        why = "with context_shift, which leaves traces of dropped text" if limits.keep is not None else ""
        if not why and not limits.cache_bytes:
            why = "with cache_capacity 0: what is read from disk is kept there first"
        if disk and why:
            self.notes = (*self.notes, f"kv_disk has no effect {why}")
            disk.close()
            self._disk = disk = None
        self._engine = BatchEngine(
            context, tokenizer, limits, self._grammars, drafts, disk, keep_all=options.kv_disk_api
        )

    def _draft_options(self) -> DraftOptions | None:
        options = self.options
        if options.spec_type != "ngram" and not self._draft:
            return None
        model = None
        if self._draft:
            model = DraftModel(
                self._draft.file.context,
                sequences=self._draft.sequences,
                n_batch=self._draft.n_batch,
                n_vocab=self._weights.n_vocab,
            )
        return DraftOptions(
            longest=options.spec_draft_max,
            repeated=options.most_repeated,
            shortest=options.spec_ngram_size_n,
            min_hits=options.spec_ngram_min_hits,
            model=model,
        )

    def grammar_start(self, grammar: str) -> npt.NDArray[np.bool_]:
        return self._grammars.start(grammar)

    def set_loras(self, loras: Sequence[Lora]) -> None:
        """Waits in the queue: earlier requests are answered without the change."""
        wanted = tuple(lora.as_stored() for lora in loras)
        for lora in wanted:
            if lora not in self.loras:
                self._try_adapter(lora.path)
        self._between_requests(lambda: self._change_loras(wanted), label="changing adapters")

    def _try_adapter(self, path: Path) -> None:
        """Test it in another process, because an adapter may crash the process that applies it. Raises:
        ModelFileError.
        """
        check_adapter_file(path)
        flash = attention_params(self.options)["flash_attn_type"]
        parts = [Path(os.fsdecode(part)) for part in self._weights.paths]
        load_trial.try_adapter(
            parts,
            path,
            {"flash_attn_type": flash, "type_k": F16, "type_v": F16},
            psutil.virtual_memory().available,
        )

    def _change_loras(self, wanted: tuple[Lora, ...]) -> None:
        self._adapters.set(wanted)
        self.loras = wanted
        if self._disk:
            self._disk.select([_identity(lora) for lora in wanted])

    def embed(self, texts: Sequence[Sequence[int]], cancel: threading.Event | None = None) -> npt.NDArray[np.float32]:
        self._mapped.check()
        return self._embedder.embed(texts, cancel)

    def warm_labels(self) -> frozenset[str]:
        return self._engine.labels()

    @property
    def saving(self) -> bool:
        return self._engine.saving

    def warning(self) -> str:
        watch = self._watch
        return watch.warning() if watch else ""

    def _check_room(self, job: Job) -> None:
        if self._only_embeds:
            raise Unsupported(self._only_embeds)
        self._mapped.check()
        scored = isinstance(job, ScoreRequest)  # the last token is never decoded, because nothing follows it
        for ids in job.prompts:
            most = self.context_length - (0 if scored else 1)
            if len(ids) > most:
                raise PromptTooLong(len(ids), most)
        if scored:
            return
        if sum(len(ids) + 1 for ids in job.prompts) > self.context_length and not self.options.separate_contexts:
            raise PromptTooLong(sum(len(ids) for ids in job.prompts), self.context_length - len(job.prompts))

    def close(self) -> None:
        """Ends all requests and frees context and weights. Calling it again does nothing."""
        with self._closing:
            self._grammars.close()
            self._embedder.close()
            self._engine.close()
            if self._watch:
                self._watch.end(self._engine.seconds_per_token())
                self._watch = None
            self.tokenizer.close()
            self._context.close()
            self._adapters.close()
            self._weights.close()
            if self._draft:
                self._draft.close()
                self._draft = None
            trim_heap()


def _identity(lora: Lora) -> tuple[object, ...]:
    """What a state depends on."""
    return str(lora.path), lora.scale, lora.version
