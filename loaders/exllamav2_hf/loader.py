"""From a folder to ExLlamaV2 behind transformers' interface. exllamav2 and torch are imported when a model loads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from errors import OutOfGpuMemory
from loaders.base import Loader, Lora, Model, Progress
from loaders.exllamav2 import folder, package
from loaders.exllamav2.loader import Opened, forecast, opened
from loaders.exllamav2.options import ExLlamaV2HFOptions, ExLlamaV2Options
from loaders.forecast import Forecast
from loaders.hf import packages
from loaders.params import LoadOptions


class ExLlamaV2HF(Loader):
    """EXL2, GPTQ and unquantized folders, so that transformers' own generate and its processors work on them."""

    name = "ExLlamav2_HF"
    summary = "EXL2, GPTQ and unquantized folders on ExLlamaV2 behind transformers' interface, one request at a time."
    Options = ExLlamaV2HFOptions

    @classmethod
    def accepts(cls, path: Path) -> int:
        """A little less than ExLlamav2, which answers several requests at once."""
        return max(folder.suits(path) - 5, 0)

    @classmethod
    def missing(cls) -> str | None:
        return package.missing(cls.name) or packages.missing(cls.name)

    @classmethod
    def forecast(cls, path: Path, options: LoadOptions) -> Forecast:
        """Raises: ModelFileError, InvalidInput."""
        assert isinstance(options, ExLlamaV2HFOptions)
        return forecast(path, options.native())

    @classmethod
    def load(cls, path: Path, options: LoadOptions, progress: Progress) -> Model:
        """Raises: Unavailable (package, card or memory lacks), ModelFileError, InvalidInput, LoadCancelled."""
        assert isinstance(options, ExLlamaV2HFOptions)
        return opened(cls.name, path, options.native(), progress, lambda found, _native: build(found, _native, options))


def build(found: Opened, native: ExLlamaV2Options, options: ExLlamaV2HFOptions) -> Model:
    """The model of what was opened."""
    from transformers import PretrainedConfig

    from loaders.exllamav2.adapters import Adapters
    from loaders.exllamav2.native import is_out_of_memory
    from loaders.exllamav2.pretrained import ExLlamaV2Decoder, ExLlamaV2ForCausalLM
    from loaders.hf.model import Backend, HFModel

    weights, tokenizer = found.weights, found.tokenizer
    config = PretrainedConfig(vocab_size=tokenizer.n_vocab, max_position_embeddings=weights.context_length)
    pretrained = ExLlamaV2ForCausalLM(config, weights, native.cache(), cfg_cache=options.cfg_cache)
    decoder = pretrained.decoder
    assert isinstance(decoder, ExLlamaV2Decoder)
    adapters = Adapters(weights.model)

    def set_loras(loras: Sequence[Lora]) -> None:
        decoder.loras = adapters.set(loras)

    beams = "Beam search is for models of the Transformers loader and of llamacpp_HF."
    backend = Backend(
        decoder,
        pretrained,
        weights.close,
        set_loras=set_loras,
        explain=lambda error: OutOfGpuMemory() if is_out_of_memory(error) else None,
        unsupported={
            "penalty_alpha": "Contrastive search needs hidden states: load the model with Transformers.",
            **dict.fromkeys(("num_beams", "length_penalty", "early_stopping"), beams),
        },
    )
    return HFModel(
        found.path.name, ExLlamaV2HF.name, backend, tokenizer, tokenizer.end_ids, options, found.notes, found.memory
    )
