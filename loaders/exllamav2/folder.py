"""What a model folder says of itself to ExLlamaV2: config.json and file sizes. Nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import ModelFileError
from loaders import plain_json
from loaders.hf.architecture import refusal

#: Bytes for a value of the KV cache, the quantized ones with their scales.
CACHE_BYTES = {"f16": 2.0, "q8_0": 1 + 2 / 32, "q6_0": 0.75 + 2 / 32, "q4_0": 0.5 + 2 / 32}

#: What ExLlamaV2 takes beside weights and cache: buffers for a prompt's piece, the libraries' own.
OVERHEAD = 700_000_000


@dataclass(frozen=True)
class Folder:
    """The folder's own words. `quantization` is "exl2", "gptq", "" for none, or another method's name."""

    path: Path
    config: dict[str, Any]
    quantization: str
    bits: float
    weights: int  # bytes of safetensors

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
        return self.number("max_sequence_length", "model_max_length", "max_position_embeddings", "max_seq_len")

    def cache_bytes(self, tokens: int, kind: str) -> int:
        """What the KV cache takes for that many tokens; 0 where config.json does not say enough."""
        heads = self.number("num_attention_heads", "n_heads", "n_head")
        width = self.number("head_dim") or self.number("hidden_size", "d_model", "n_embd") // max(heads, 1)
        layers = self.number("num_hidden_layers", "n_layers", "n_layer")
        per_token = 2 * layers * (self.number("num_key_value_heads") or heads) * width
        return int(tokens * per_token * CACHE_BYTES[kind])

    @property
    def described(self) -> str:
        """The weights in a few words: "EXL2, 4.0 bits per weight"."""
        if not self.quantization:
            return "unquantized weights"
        return f"{self.quantization.upper()}, {self.bits:g} bits per weight" if self.bits else self.quantization.upper()


def read(path: Path) -> Folder:
    """Read a folder. Raises: ModelFileError, where ExLlamaV2 could not load it."""
    if not path.is_dir():
        raise ModelFileError(path.name, "ExLlamaV2 loads folders with config.json and safetensors, not single files.")
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
    files = [each for each in path.glob("*.safetensors") if each.is_file()]
    if not files:
        raise ModelFileError(path.name, "it holds no .safetensors files, and ExLlamaV2 reads no others.")
    method, bits = _quantization(path, config)
    return Folder(path, config, method, bits, sum(each.stat().st_size for each in files))


def suits(path: Path) -> int:
    """How well ExLlamaV2 suits a path, 0 to 95: its own format best, GPTQ well, unquantized folders after others."""
    if not path.is_dir():
        return 0
    try:
        folder = read(path)
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
