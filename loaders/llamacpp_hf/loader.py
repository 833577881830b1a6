"""Loads a GGUF behind transformers' interface. llama_cpp and torch are imported when a model is loaded."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from errors import MissingPackage, ModelFileError, Unavailable
from loaders.base import Loader, Model, Progress, Tokenizer
from loaders.forecast import Forecast
from loaders.gpus import Gpu
from loaders.heap import trim_heap
from loaders.hf_common import packages
from loaders.llamacpp import architecture
from loaders.llamacpp.engine.limits import EngineLimits
from loaders.llamacpp.gguf import read_header
from loaders.llamacpp.loader import LlamaCpp, forecast_gguf, quick_forecast_gguf
from loaders.llamacpp.loading import LoadedGGUF, check_gguf, gguf_file, load_gguf
from loaders.llamacpp.options import GGUFOptions, LlamaCppHFOptions
from loaders.params import LoadOptions

#: The tokenizer that users of the original have beside their Llama-family GGUFs.
_SHARED_TOKENIZER = "oobabooga_llama-tokenizer"

#: Sequences of the context: those of beams, or the two of guidance.
BRANCHES = 8


class LlamaCppHF(Loader):
    """GGUF files decoded by llama.cpp, for transformers' own generate and its processors."""

    name = "llamacpp_HF"
    summary = (
        "GGUF files on llama.cpp through the Transformers interface: beam search, and logits processors of other "
        "programs."
    )
    Options = LlamaCppHFOptions

    @classmethod
    def accepts(cls, path: Path) -> int:
        """50, where llama.cpp itself has 90 or more; 0 for models that only create embeddings, which it does not
        support.
        """
        return 50 if LlamaCpp.accepts(path) >= 90 else 0

    @classmethod
    def isolates(cls, options: LoadOptions) -> bool:
        """With other machines: llama.cpp ends the process when the connection to one breaks."""
        assert isinstance(options, GGUFOptions)
        return bool(options.parse_rpc())

    @classmethod
    def missing(cls) -> str | None:
        if importlib.util.find_spec("llama_cpp") is None:
            return str(MissingPackage(cls.name, "llama-cpp-python", "pip install llama-cpp-python"))
        return packages.explain_missing(cls.name, ("torch", "transformers", "tokenizers"))

    @classmethod
    def forecast(cls, path: Path, options: LoadOptions) -> Forecast | None:
        """Raises: ModelFileError, InvalidInput."""
        assert isinstance(options, LlamaCppHFOptions)
        if cls.missing():
            return None
        return forecast_gguf(
            path, options, EngineLimits(parallel=BRANCHES, n_batch=options.n_batch), 2 if options.cfg_cache else 1
        )

    @classmethod
    def quick_forecast(cls, path: Path, options: LoadOptions, cards: Sequence[Gpu]) -> Forecast | None:
        """Raises: ModelFileError, InvalidInput."""
        assert isinstance(options, LlamaCppHFOptions)
        limits = EngineLimits(parallel=BRANCHES, n_batch=options.n_batch)
        return quick_forecast_gguf(path, options, limits, 2 if options.cfg_cache else 1, cards)

    @classmethod
    def check(cls, path: Path, options: LoadOptions, progress: Progress) -> None:
        """Raises: ModelFileError, InvalidInput, LoadCancelled."""
        assert isinstance(options, LlamaCppHFOptions)
        if cls.missing():
            return
        limits = _limits(path, options)
        check_gguf(path, options, limits, 2 if options.cfg_cache else 1, progress)

    @classmethod
    def load(cls, path: Path, options: LoadOptions, progress: Progress) -> Model:
        """Raises: MissingPackage, ModelFileError, NotEnoughMemory, InvalidInput, LoadCancelled."""
        assert isinstance(options, LlamaCppHFOptions)
        if why := cls.missing():
            raise Unavailable(why)
        return load_gguf(path, options, _limits(path, options), 2 if options.cfg_cache else 1, progress, build_hf_model)


def _limits(path: Path, options: LlamaCppHFOptions) -> EngineLimits:
    """Raises: ModelFileError, also for a model that generates no text."""
    if why := architecture.explain_embedding_only(read_header(gguf_file(path))):
        raise ModelFileError(path.name, f"it {why} Load it with llama.cpp to create embeddings.")
    return EngineLimits(parallel=BRANCHES, n_batch=options.n_batch)


def build_hf_model(found: LoadedGGUF, options: LlamaCppHFOptions, limits: EngineLimits) -> Model:
    """The model for a loaded GGUF."""
    from transformers import PretrainedConfig

    from loaders.hf_common.model import HFBackend, HFModel
    from loaders.hf_common.pretrained import DecoderForCausalLM
    from loaders.hf_common.search import BeamAndContrastiveSearch
    from loaders.llamacpp.model import LlamaCppModel
    from loaders.llamacpp_hf.decoder import LlamaCppDecoder

    n_ctx = found.context.n_ctx // (2 if options.cfg_cache else 1)
    tokenizer, ends, reason = _tokenizer(found)
    decoder = LlamaCppDecoder(found.context, n_ctx, limits.n_batch, BRANCHES)
    config = PretrainedConfig(vocab_size=decoder.n_vocab, max_position_embeddings=n_ctx, is_decoder=True)
    pretrained = DecoderForCausalLM(config, decoder)
    search = BeamAndContrastiveSearch(pretrained, tokenizer, ends, n_ctx, most_beams=BRANCHES, hidden=False)

    def release() -> None:
        if found.watch:
            found.watch.end(decoder.cost.of_one())
        found.tokenizer.close()
        found.context.close()
        found.weights.close()
        trim_heap()

    backend = HFBackend(
        decoder,
        pretrained,
        release,
        search=search,
        warning=found.watch.warning if found.watch else lambda: "",
        unsupported={
            "penalty_alpha": "Contrastive search needs hidden states, which llama.cpp does not provide.",
            "lora": "llamacpp_HF does not support LoRA adapters. Load the model with llama.cpp.",
        },
    )
    notes = [*found.notes, reason]
    model = HFModel(found.name, LlamaCppHF.name, backend, tokenizer, ends, options, notes, found.memory)
    model.template_place = LlamaCppModel.template_place
    return model


def _tokenizer(found: LoadedGGUF) -> tuple[Tokenizer, frozenset[int], str]:
    """The folder's tokenizer, else the shared one of the Llama family if it matches, else the GGUF's own."""
    from loaders.hf_common.tokenizer import FolderTokenizer

    own = found.tokenizer
    folder = found.path if found.path.is_dir() else found.path.parent / _SHARED_TOKENIZER
    if (folder / "tokenizer.json").is_file():
        with contextlib.suppress(ModelFileError):
            other = FolderTokenizer(folder, own.n_vocab)
            if other.n_vocab == own.n_vocab and other.piece(own.n_vocab - 1, special=True) == own.piece(
                own.n_vocab - 1, special=True
            ):
                other.chat_template = other.chat_template or own.chat_template
                return other, other.end_ids | own.end_ids, f"tokenizer: from the folder {folder.name}"
            return own, own.end_ids, f"tokenizer: from the GGUF file (the one in {folder.name} has another vocabulary)"
    return own, own.end_ids, "tokenizer: from the GGUF file's metadata"
