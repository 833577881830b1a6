"""Small random GGUF models of many architectures, created from recipes: a header without weights.

A recipe (recipes/*.json) holds a file's metadata and its tensors' names, shapes, types and ranges; the vocabulary,
which nearly all share, stands apart. `python -m tests.zoo.ggufs FILE.gguf ...` writes recipes of further files, such as
those that llama.cpp's convert_hf_to_gguf.py makes of a random folder. The models say nonsense, and always the same.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

RECIPES = Path(__file__).parent / "recipes"
_VOCABULARY = RECIPES / "vocabulary.json"
_SHARED = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges")
_TYPES = {"F32": np.float32, "F16": np.float16}

_KINDS = {str: "STRING", int: "UINT32", float: "FLOAT32", bool: "BOOL"}
#: What changes where heads are half as many and twice as large.
_WIDER = {
    "attention.head_count": 0.5, "attention.head_count_kv": 0.5, "attention.key_length": 2.0,
    "attention.value_length": 2.0, "rope.dimension_count": 2.0,
}  # fmt: skip


def architectures() -> list[str]:
    """The names of all recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.json") if path != _VOCABULARY)


def make(
    name: str, folder: Path, *, wide: bool = False, blocks: int | None = None, changes: Mapping[str, Any] | None = None
) -> Path:
    """The model of a recipe, in a folder. `wide`: half as many attention heads of twice the size, 32 values, which is
    the least of which llama.cpp quantizes a cache. `blocks`: the first so many only. `changes`: metadata by full keys.

    Where the recipe has experts, all of them work: which of them are chosen hangs on differences so small that rounding
    changes them, and then the logits jump.
    """
    recipe = json.loads((RECIPES / f"{name}.json").read_text("utf-8"))
    shared = json.loads(_VOCABULARY.read_text("utf-8"))
    architecture = recipe["architecture"]
    path = folder / f"zoo-{name}{'-wide' * wide}.gguf"
    writer = gguf.GGUFWriter(path, architecture)
    changes = {**({f"{architecture}.block_count": blocks} if blocks else {}), **(changes or {})}
    there = {key for key, _, _ in recipe["metadata"]}
    more = [[key, [_KINDS[type(value)]], value] for key, value in changes.items() if key not in there]
    for key, types, value in [*recipe["metadata"], *more]:
        kinds = [gguf.GGUFValueType[each] for each in types]
        scale = _WIDER.get(key.removeprefix(f"{architecture}."), 1.0) if wide else 1.0
        written = shared[key] if value is None else _scaled(value, scale) if scale != 1 else value
        if key == f"{architecture}.expert_used_count":
            numbers = {each: number for each, _, number in recipe["metadata"]}
            written = max(value, numbers.get(f"{architecture}.expert_count", 0))
        writer.add_key_value(key, changes.get(key, written), *kinds)
    for tensor, shape, kind, mean, spread, low, high in recipe["tensors"]:
        if blocks and tensor.startswith("blk.") and int(tensor.split(".")[1]) >= blocks:
            continue
        if wide and tensor.endswith(("attn_q_norm.weight", "attn_k_norm.weight")):
            shape[-1] *= 2
        elif wide and tensor.endswith("attn_sinks.weight"):
            shape[-1] //= 2
        chance = np.random.default_rng(zlib.crc32(f"{name} {tensor}".encode()))
        values = np.clip(chance.normal(mean, spread, shape), low, high)
        writer.add_tensor(tensor, values.astype(_TYPES[kind]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _scaled(value: Any, scale: float) -> Any:
    return [int(each * scale) for each in value] if isinstance(value, list) else int(value * scale)


def recipe_of(path: Path) -> dict[str, Any]:
    """The recipe of a file whose tensors are all F32 or F16."""
    reader = gguf.GGUFReader(path)
    shared = json.loads(_VOCABULARY.read_text("utf-8")) if _VOCABULARY.exists() else {}
    metadata = []
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "tokenizer.ggml.precompiled_charsmap"):
            continue
        value = field.contents()
        if key in _SHARED and shared.setdefault(key, value) == value:
            value = None
        metadata.append([key, [kind.name for kind in field.types[:2]], value])
    _VOCABULARY.write_text(json.dumps(shared), "utf-8")
    tensors = []
    for tensor in reader.tensors:
        values = tensor.data.astype(np.float32)
        figures = [round(float(each), 4) for each in (values.mean(), values.std(), values.min(), values.max())]
        tensors.append([tensor.name, [int(n) for n in tensor.shape[::-1]], tensor.tensor_type.name, *figures])
    return {
        "architecture": reader.fields["general.architecture"].contents(), "metadata": metadata, "tensors": tensors,
    }  # fmt: skip


def main(paths: list[str]) -> None:
    RECIPES.mkdir(exist_ok=True)
    for path in map(Path, paths):
        recipe = recipe_of(path)
        rows = ",\n  ".join(json.dumps(row) for row in recipe.pop("tensors"))
        text = json.dumps(recipe)[:-1] + f', "tensors": [\n  {rows}\n]}}\n'
        (RECIPES / f"{path.stem.removeprefix('zoo-')}.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
