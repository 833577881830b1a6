"""What Transformers needs to know of a model folder before it loads it. Nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from errors import ModelFileError
from loaders.hf_common.model_folder import ModelFolder, list_files, read_config, sum_sizes
from loaders.huggingface.cache_size import cached_layers, count_cache_values

#: Formats that have their own loaders, or need packages that are not available here.
_ELSEWHERE = {"exl2": "ExLlamav2", "exl3": "another program", "gptq": "ExLlamav2"}
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}


@dataclass(frozen=True)
class TransformersFolder(ModelFolder):
    """A folder as Transformers loads it. `weights` counts safetensors, or .bin files where there are none."""

    pickled: bool

    @property
    def context_length(self) -> int:
        """The context length of training; 0 if unknown."""
        return self.number(
            "max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx",
            "context_length",
        )  # fmt: skip

    def cache_values(self, tokens: int) -> int:
        """Keys and values that the cache holds for this many tokens; 0 if config.json is incomplete."""
        return count_cache_values(self.config, tokens)

    @property
    def has_unlimited_context(self) -> bool:
        """Whether nothing in it depends on the length of a text: a model with recurrent layers only."""
        return bool(self.number("num_hidden_layers")) and not cached_layers(self.config)

    @property
    def bytes_per_weight(self) -> int:
        """On disk."""
        return _BYTES.get(str(self.config.get("dtype") or self.config.get("torch_dtype") or "float32"), 2)

    @property
    def has_code(self) -> bool:
        """Whether it includes Python code."""
        return bool(self.config.get("auto_map"))


def read_folder(path: Path, *, pickles: bool = False, code: bool = False) -> TransformersFolder:
    """Read a folder; `pickles` and `code` allow what is otherwise refused. Raises: ModelFileError."""
    config = read_config(path, "Transformers", "weights")
    tensors = list_files(path, "*.safetensors")
    pickled = [] if tensors else list_files(path, "*.bin")
    found = TransformersFolder(path, config, sum_sizes(tensors or pickled), bool(pickled))
    if not tensors and not pickled:
        raise ModelFileError(
            path.name, "the folder contains no weights (.safetensors). Download the complete model again."
        )
    if pickled and not pickles:
        raise ModelFileError(
            path.name,
            "its weights are pickled (.bin), a format that can contain code. Use a version with safetensors, or "
            "turn allow_pickle on if you trust the source.",
        )
    if found.has_code and not code:
        raise ModelFileError(
            path.name,
            "it requires its own Python code. Start the program with --trust-remote-code, or turn "
            "trust_remote_code on, if you trust the source.",
        )
    return found


def wrap_load_error(path: Path, error: BaseException) -> ModelFileError:
    """The error that Transformers raised for a folder, as a sentence."""
    message = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
    return ModelFileError(path.name, f"transformers reported: {message}.")


def rate_folder(path: Path) -> int:
    """How well Transformers suits a path, 0 to 60."""
    if not path.is_dir():
        return 0
    try:
        found = read_folder(path, pickles=True, code=True)
    except ModelFileError:
        return 0
    if not isinstance(found.config.get("architectures"), list):
        return 0
    declared = found.config.get("quantization_config")
    method = str(declared.get("quant_method", "")).lower() if isinstance(declared, dict) else ""
    if not method and "exl2" in path.name.lower():
        method = "exl2"
    return 10 if method in _ELSEWHERE else 60
