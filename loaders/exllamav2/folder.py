"""What ExLlamaV2 needs to know of a model folder before it loads it. Nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import ModelFileError
from loaders.hf_common.model_folder import ModelFolder, list_files, read_config, sum_sizes

#: Bytes per value of the KV cache, for quantized ones including their scales.
CACHE_BYTES = {"f16": 2.0, "q8_0": 1 + 2 / 32, "q6_0": 0.75 + 2 / 32, "q4_0": 0.5 + 2 / 32}

#: ExLlamaV2's memory besides weights and cache: buffers for a chunk of the prompt, and the libraries.
OVERHEAD = 700_000_000


@dataclass(frozen=True)
class ExLlamaV2Folder(ModelFolder):
    """A folder as ExLlamaV2 loads it. `quantization` is "exl2", "gptq", "" for none, or another method's name."""

    quantization: str
    bits: float  # per weight, 0 where the folder does not say

    @property
    def context_length(self) -> int:
        """The context length of training; 0 if unknown."""
        return self.number("max_sequence_length", "model_max_length", "max_position_embeddings", "max_seq_len")

    def cache_bytes(self, tokens: int, kind: str) -> int:
        """The KV cache's size for this many tokens; 0 if config.json is incomplete."""
        heads = self.number("num_attention_heads", "n_heads", "n_head")
        width = self.number("head_dim") or self.number("hidden_size", "d_model", "n_embd") // max(heads, 1)
        layers = self.number("num_hidden_layers", "n_layers", "n_layer")
        per_token = 2 * layers * (self.number("num_key_value_heads") or heads) * width
        return int(tokens * per_token * CACHE_BYTES[kind])

    @property
    def description(self) -> str:
        """A description of the weights: "EXL2, 4.0 bits per weight"."""
        if not self.quantization:
            return "unquantized weights"
        return f"{self.quantization.upper()}, {self.bits:g} bits per weight" if self.bits else self.quantization.upper()


def read_folder(path: Path) -> ExLlamaV2Folder:
    """Read a folder. Raises: ModelFileError if ExLlamaV2 cannot load it."""
    config = read_config(path, "ExLlamaV2", "safetensors")
    files = list_files(path, "*.safetensors")
    if not files:
        raise ModelFileError(path.name, "it contains no .safetensors files, the only format that ExLlamaV2 loads.")
    method, bits = _quantization(path, config)
    return ExLlamaV2Folder(path, config, sum_sizes(files), method, bits)


def rate_folder(path: Path) -> int:
    """How well ExLlamaV2 suits a path, 0 to 95: its own format best, GPTQ well, unquantized folders after others."""
    if not path.is_dir():
        return 0
    try:
        folder = read_folder(path)
    except ModelFileError:
        return 0
    if not isinstance(folder.config.get("architectures"), list):
        return 0
    return {"exl2": 95, "gptq": 85, "": 30}.get(folder.quantization, 0)


def _quantization(path: Path, config: dict[str, Any]) -> tuple[str, float]:
    declared = config.get("quantization_config")
    declared = declared if isinstance(declared, dict) else {}
    bits = declared.get("bits")
    bits = float(bits) if isinstance(bits, int | float) else 0.0
    method = str(declared.get("quant_method", "")).lower()
    if not method and (path / "quantize_config.json").is_file():
        method = "gptq"
    if not method and "exl2" in path.name.lower():
        method = "exl2"
    return method, bits
