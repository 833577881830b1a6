"""Loads a folder with ExLlamaV2 behind transformers' interface. exllamav2 and torch are imported when a model loads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from errors import OutOfGpuMemory
from loaders.base import Loader, Lora, Model, Progress
from loaders.exllamav2 import folder, package
from loaders.exllamav2.loader import LoadedFolder, check_folder, forecast_folder, load_folder
from loaders.exllamav2.options import ExLlamaV2HFOptions, ExLlamaV2Options
from loaders.forecast import Forecast
from loaders.hf_common import packages
from loaders.params import LoadOptions


class ExLlamaV2HF(Loader):
    """EXL2, GPTQ and unquantized folders for transformers' own generate and its processors."""

    name = "ExLlamav2_HF"
    summary = (
        "EXL2, GPTQ and unquantized folders on ExLlamaV2 through the Transformers interface, one request at a time."
    )
    Options = ExLlamaV2HFOptions

    @classmethod
    def accepts(cls, path: Path) -> int:
        """Slightly less than ExLlamav2, which runs several requests at once."""
        return max(folder.rate_folder(path) - 5, 0)

    @classmethod
    def missing(cls) -> str | None:
        return package.explain_missing(cls.name) or packages.explain_missing(cls.name)

    @classmethod
    def forecast(cls, path: Path, options: LoadOptions) -> Forecast:
        """Raises: ModelFileError, InvalidInput."""
        assert isinstance(options, ExLlamaV2HFOptions)
        return forecast_folder(path, options.to_native())

    @classmethod
    def check(cls, path: Path, options: LoadOptions, progress: Progress) -> None:
        """Raises: ModelFileError, InvalidInput."""
        del progress
        assert isinstance(options, ExLlamaV2HFOptions)
        check_folder(path, options.to_native())

    @classmethod
    def load(cls, path: Path, options: LoadOptions, progress: Progress) -> Model:
        """Load the model. Raises: Unavailable (package, GPU or memory missing), ModelFileError, InvalidInput,
        LoadCancelled.
        """
        assert isinstance(options, ExLlamaV2HFOptions)
        return load_folder(
            cls.name,
            path,
            options.to_native(),
            progress,
            lambda found, native: build_hf_model(found, native, options),
        )


def build_hf_model(found: LoadedFolder, native: ExLlamaV2Options, options: ExLlamaV2HFOptions) -> Model:
    """The model for a loaded folder."""
    from transformers import PretrainedConfig

    from loaders.exllamav2.adapters import ExLlamaV2Adapters
    from loaders.exllamav2.native import is_out_of_memory
    from loaders.exllamav2.pretrained import ExLlamaV2Decoder, ExLlamaV2ForCausalLM
    from loaders.hf_common.model import HFBackend, HFModel

    weights, tokenizer = found.weights, found.tokenizer
    config = PretrainedConfig(vocab_size=tokenizer.n_vocab, max_position_embeddings=weights.context_length)
    pretrained = ExLlamaV2ForCausalLM(config, weights, native.choose_cache_type(), cfg_cache=options.cfg_cache)
    decoder = pretrained.decoder
    assert isinstance(decoder, ExLlamaV2Decoder)
    adapters = ExLlamaV2Adapters(weights.model)

    def set_loras(loras: Sequence[Lora]) -> None:
        decoder.loras = adapters.set(loras)

    beams = "Beam search requires the Transformers or llamacpp_HF loader."
    backend = HFBackend(
        decoder,
        pretrained,
        weights.close,
        set_loras=set_loras,
        explain=lambda error: OutOfGpuMemory() if is_out_of_memory(error) else None,
        unsupported={
            "penalty_alpha": "Contrastive search needs hidden states. Load the model with Transformers.",
            **dict.fromkeys(("num_beams", "length_penalty", "early_stopping"), beams),
        },
    )
    return HFModel(
        found.path.name, ExLlamaV2HF.name, backend, tokenizer, tokenizer.end_ids, options, found.notes, found.memory
    )
