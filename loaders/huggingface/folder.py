"""What a model folder says of itself to transformers: config.json and file sizes. Nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import ModelFileError
from loaders import plain_json
from loaders.hf.architecture import refusal
from loaders.huggingface.cache_size import cache_values, layers

#: Formats that have loaders of their own, or need packages that are not here.
_ELSEWHERE = {"exl2": "ExLlamav2", "exl3": "another program", "gptq": "ExLlamav2"}
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}


@dataclass(frozen=True)
class Folder:
    """The folder's own words. `weights` is in bytes as they lie on disk."""

    path: Path
    config: dict[str, Any]
    weights: int
    pickled: bool

    def number(self, *names: str) -> int:
        """The first of these whole numbers that config.json has, also one level down in text_config; 0 without."""
        inner = self.config.get("text_config")
        for holder in (self.config, inner if isinstance(inner, dict) else {}):
            for name in names:
                value = holder.get(name)
                if isinstance(value, int) and value > 0:
                    return value
        return 0

    @property
    def context_length(self) -> int:
        """The context that the model was trained for; 0 where it does not say."""
        return self.number(
            "max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx",
            "context_length",
        )  # fmt: skip

    def cache_values(self, tokens: int) -> int:
        """Keys and values that the cache holds of that many tokens; 0 where config.json says too little."""
        return cache_values(self.config, tokens)

    @property
    def has_no_end(self) -> bool:
        """Whether nothing in it depends on the length of a text: a model of recurrent layers alone."""
        return bool(self.number("num_hidden_layers")) and not layers(self.config)

    @property
    def bytes_per_weight(self) -> int:
        """On disk."""
        return _BYTES.get(str(self.config.get("dtype") or self.config.get("torch_dtype") or "float32"), 2)

    @property
    def has_code(self) -> bool:
        """Whether it brings Python code of its own."""
        return bool(self.config.get("auto_map"))


def read(path: Path, *, pickles: bool = False, code: bool = False) -> Folder:
    """Read a folder; `pickles` and `code` allow what is refused otherwise. Raises: ModelFileError."""
    if not path.is_dir():
        raise ModelFileError(path.name, "Transformers loads folders with config.json and weights, not single files.")
    try:
        config = plain_json.loads((path / "config.json").read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ModelFileError(path.name, "the folder has no config.json. Download it again, complete.") from None
    except (OSError, ValueError):
        raise ModelFileError(path.name, "its config.json cannot be read. Download it again.") from None
    if not isinstance(config, dict):
        raise ModelFileError(path.name, "its config.json is not what it should be. Download it again.")
    if why := refusal(config):
        raise ModelFileError(path.name, why)
    tensors = [each for each in path.glob("*.safetensors") if each.is_file()]
    pickled = [] if tensors else [each for each in path.glob("*.bin") if each.is_file()]
    found = Folder(path, config, sum(each.stat().st_size for each in tensors or pickled), bool(pickled))
    if not tensors and not pickled:
        raise ModelFileError(path.name, "the folder holds no weights (.safetensors). Download it again, complete.")
    if pickled and not pickles:
        raise ModelFileError(
            path.name,
            "its weights are pickled (.bin), a format that can carry code. Take a version with safetensors, or switch "
            "allow_pickle on if you trust where it comes from.",
        )
    if found.has_code and not code:
        raise ModelFileError(
            path.name,
            "it brings Python code of its own. Start the program with --trust-remote-code, or switch "
            "trust_remote_code on, if you trust where it comes from.",
        )
    return found


def suits(path: Path) -> int:
    """How well Transformers suits a path, 0 to 60."""
    if not path.is_dir():
        return 0
    try:
        found = read(path, pickles=True, code=True)
    except ModelFileError:
        return 0
    if not isinstance(found.config.get("architectures"), list):
        return 0
    declared = found.config.get("quantization_config")
    method = str(declared.get("quant_method", "")).lower() if isinstance(declared, dict) else ""
    if not method and "exl2" in path.name.lower():
        method = "exl2"
    return 10 if method in _ELSEWHERE else 60
