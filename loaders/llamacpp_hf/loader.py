"""From a GGUF to a model behind transformers' interface. llama_cpp and torch are imported when a model is loaded."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path

from errors import MissingPackage, ModelFileError, Unavailable
from loaders.base import Loader, Model, Progress, Tokenizer
from loaders.forecast import Forecast
from loaders.hf import packages
from loaders.llamacpp import architecture
from loaders.llamacpp.gguf import read_header
from loaders.llamacpp.limits import Limits
from loaders.llamacpp.loader import LlamaCpp, Opened, file_of, forecast, opened
from loaders.llamacpp.options import LlamaCppHFOptions
from loaders.params import LoadOptions

#: The tokenizer that users of the original have beside their GGUFs of the Llama family.
_SHARED_TOKENIZER = "oobabooga_llama-tokenizer"

#: Sequences of the context: those of beams, or the two of guidance.
BRANCHES = 8


class LlamaCppHF(Loader):
    """GGUF files decoded by llama.cpp, so that transformers' own generate and its processors work on them."""

    name = "llamacpp_HF"
    summary = "GGUF files on llama.cpp behind transformers' interface: beams, and other programs' logits processors."
    Options = LlamaCppHFOptions

    @classmethod
    def accepts(cls, path: Path) -> int:
        """50 where llama.cpp itself has 90 and more; it makes no embeddings, so nothing where that is all."""
        return 50 if LlamaCpp.accepts(path) >= 90 else 0

    @classmethod
    def missing(cls) -> str | None:
        if importlib.util.find_spec("llama_cpp") is None:
            return str(MissingPackage(cls.name, "llama-cpp-python", "pip install llama-cpp-python"))
        return packages.missing(cls.name, ("torch", "transformers", "tokenizers"))

    @classmethod
    def forecast(cls, path: Path, options: LoadOptions) -> Forecast | None:
        """Raises: ModelFileError, InvalidInput."""
        assert isinstance(options, LlamaCppHFOptions)
        if cls.missing():
            return None
        return forecast(
            path, options, Limits(parallel=BRANCHES, n_batch=options.n_batch), 2 if options.cfg_cache else 1
        )

    @classmethod
    def load(cls, path: Path, options: LoadOptions, progress: Progress) -> Model:
        """Raises: MissingPackage, ModelFileError, NotEnoughMemory, InvalidInput, LoadCancelled."""
        assert isinstance(options, LlamaCppHFOptions)
        if why := cls.missing():
            raise Unavailable(why)
        limits = Limits(parallel=BRANCHES, n_batch=options.n_batch)
        if why := architecture.only_embeds(read_header(file_of(path))):
            raise ModelFileError(path.name, f"it {why} Load it with llama.cpp to have embeddings.")
        return opened(path, options, limits, 2 if options.cfg_cache else 1, progress, build)


def build(found: Opened, options: LlamaCppHFOptions, limits: Limits) -> Model:
    """The model of what was opened."""
    from transformers import PretrainedConfig

    from loaders.hf.model import Backend, HFModel
    from loaders.hf.pretrained import DecoderForCausalLM
    from loaders.hf.search import BeamsAndContrast
    from loaders.llamacpp.native import give_back
    from loaders.llamacpp_hf.decoder import LlamaCppDecoder

    n_ctx = found.context.n_ctx // (2 if options.cfg_cache else 1)
    tokenizer, ends, reason = _tokenizer(found)
    decoder = LlamaCppDecoder(found.context, n_ctx, limits.n_batch, BRANCHES)
    config = PretrainedConfig(vocab_size=decoder.n_vocab, max_position_embeddings=n_ctx, is_decoder=True)
    pretrained = DecoderForCausalLM(config, decoder)
    search = BeamsAndContrast(pretrained, tokenizer, ends, n_ctx, most_beams=BRANCHES, hidden=False)

    def release() -> None:
        found.tokenizer.close()
        found.context.close()
        found.weights.close()
        give_back()

    backend = Backend(
        decoder,
        pretrained,
        release,
        search=search,
        unsupported={
            "penalty_alpha": "Contrastive search needs hidden states, which llama.cpp does not give.",
            "lora": "llamacpp_HF applies no LoRA adapters: load the model with llama.cpp.",
        },
    )
    notes = [*found.notes, reason]
    return HFModel(found.name, LlamaCppHF.name, backend, tokenizer, ends, options, notes, found.memory)


def _tokenizer(found: Opened) -> tuple[Tokenizer, frozenset[int], str]:
    """The folder's tokenizer, else the shared one of the Llama family where it fits, else the GGUF's own."""
    from loaders.hf.tokenizer import FolderTokenizer

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
            return own, own.end_ids, f"tokenizer: from the GGUF (that of {folder.name} is for another vocabulary)"
    return own, own.end_ids, "tokenizer: from the GGUF's own metadata"
