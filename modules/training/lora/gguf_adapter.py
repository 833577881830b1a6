"""Exports a PEFT adapter as a GGUF file, which llama.cpp can apply to the same model's GGUF with any quantization.

Names and the layout of rotated queries and keys are llama.cpp's own (its convert_lora_to_gguf.py and the models of its
convert_hf_to_gguf.py); the package gguf has the names. Torch reads the weights, so it runs in its own process.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.torch import load_file

from errors import Conflict, IncompatibleAdapter, NotWritable
from loaders import safe_json
from loaders.huggingface import folder
from loaders.huggingface.folder import TransformersFolder
from modules.config import atomic
from modules.training.lora.checkpoints import CONFIG, WEIGHTS

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Kind:
    """The model's architecture in llama.cpp, and whether its queries and keys have another order there."""

    architecture: gguf.MODEL_ARCH
    rotated: bool = False


#: By the class in config.json: those for which the order of every weight is known.
KINDS: Mapping[str, _Kind] = MappingProxyType({
    "LlamaForCausalLM": _Kind(gguf.MODEL_ARCH.LLAMA, rotated=True),
    "MistralForCausalLM": _Kind(gguf.MODEL_ARCH.LLAMA, rotated=True),
    "SmolLM3ForCausalLM": _Kind(gguf.MODEL_ARCH.SMOLLM3, rotated=True),
    "GraniteForCausalLM": _Kind(gguf.MODEL_ARCH.GRANITE, rotated=True),
    "Qwen2ForCausalLM": _Kind(gguf.MODEL_ARCH.QWEN2),
    "Qwen3ForCausalLM": _Kind(gguf.MODEL_ARCH.QWEN3),
    "GemmaForCausalLM": _Kind(gguf.MODEL_ARCH.GEMMA),
    "Gemma2ForCausalLM": _Kind(gguf.MODEL_ARCH.GEMMA2),
    "Gemma3ForCausalLM": _Kind(gguf.MODEL_ARCH.GEMMA3),
    "Phi3ForCausalLM": _Kind(gguf.MODEL_ARCH.PHI3),
})  # fmt: skip

_PART = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<part>[AB])\.(?:default\.)?weight")


def export_gguf(base: Path, adapter: Path, target: Path) -> None:
    """Write the adapter for `base` to the file `target`, which appears when it is complete.

    Raises: ModelFileError (the base), IncompatibleAdapter, Conflict (the target exists), NotWritable.
    """
    if target.exists():
        raise Conflict(f"{target.name} already exists in {target.parent.name}/. Remove it first.")
    read = folder.read_folder(base)
    kind = _kind(adapter.name, read)
    config = _config(adapter)
    pairs = _pairs(adapter)
    names = gguf.get_tensor_name_map(kind.architecture, read.number("num_hidden_layers"))
    half_made = target.with_name(f".{target.name}.writing")
    try:
        writer = gguf.GGUFWriter(half_made, gguf.MODEL_ARCH_NAMES[kind.architecture])
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, _alpha(config))
        for module, (a, b) in pairs.items():
            name = names.get_name(f"{module}.weight", try_suffixes=(".weight",))
            if name is None:
                raise IncompatibleAdapter(adapter.name, f"llama.cpp has no weights that match {module}")
            heads = _heads(module, read) if kind.rotated else 0
            writer.add_tensor(f"{name}.lora_a", a)
            writer.add_tensor(f"{name}.lora_b", permute_heads(b, heads) if heads else b)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        atomic.replace(half_made, target)
    except OSError as error:
        raise NotWritable(target, error) from None
    finally:
        half_made.unlink(missing_ok=True)


def permute_heads(rows: Matrix, heads: int) -> Matrix:
    """The rows of a query or key matrix in llama.cpp's order, in which the two halves of a head alternate."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


# --- inside ---


def _kind(name: str, read: TransformersFolder) -> _Kind:
    said = read.config.get("architectures")
    architecture = str(said[0]) if isinstance(said, list) and said else "an unknown architecture"
    if architecture not in KINDS:
        raise IncompatibleAdapter(
            name, f"{architecture} cannot be converted for llama.cpp, only {', '.join(sorted(KINDS))}"
        )
    return KINDS[architecture]


def _config(adapter: Path) -> dict[str, Any]:
    try:
        found = safe_json.loads((adapter / CONFIG).read_text("utf-8"))
        if not isinstance(found, dict) or found.get("use_dora") or found.get("bias", "none") != "none":
            raise IncompatibleAdapter(adapter.name, "it is not a plain LoRA (DoRA, or trained biases)")
    except (OSError, ValueError):
        raise IncompatibleAdapter(adapter.name, f"its {CONFIG} cannot be read") from None
    return found


def _alpha(config: Mapping[str, Any]) -> float:
    """The strength in llama.cpp is alpha / rank; rank-stabilized adapters have alpha / sqrt(rank)."""
    alpha, rank = float(config.get("lora_alpha", 0)), int(config.get("r", 1))
    return alpha * math.sqrt(rank) if config.get("use_rslora") else alpha


def _pairs(adapter: Path) -> dict[str, tuple[Matrix, Matrix]]:
    """By module: A (rank, inputs) and B (outputs, rank)."""
    try:
        weights = load_file(adapter / WEIGHTS)
    except (OSError, SafetensorError):
        raise IncompatibleAdapter(adapter.name, f"its {WEIGHTS} cannot be read") from None
    found: dict[str, dict[str, Matrix]] = {}
    for key, tensor in weights.items():
        match = _PART.fullmatch(key)
        if match is None:
            raise IncompatibleAdapter(adapter.name, f"it contains {key}, which is not part of a plain LoRA")
        found.setdefault(match["module"], {})[match["part"]] = tensor.float().numpy()
    if lone := next((module for module, parts in found.items() if len(parts) != 2), None):
        raise IncompatibleAdapter(adapter.name, f"half of {lone} is missing")
    return {module: (parts["A"], parts["B"]) for module, parts in found.items()}


def _heads(module: str, read: TransformersFolder) -> int:
    """The number of heads of a query or key matrix; 0 for other modules."""
    heads = read.number("num_attention_heads")
    match module.rpartition(".")[2]:
        case "q_proj":
            return heads
        case "k_proj":
            return read.number("num_key_value_heads") or heads
        case _:
            return 0
