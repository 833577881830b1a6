"""Compares the config.json of a model folder with its safetensors files, by their headers: files that are missing or
cut short, numbers that contradict the tensors. It takes milliseconds and must not import torch.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

from errors import ModelFileError
from loaders import safe_json
from loaders.hf_common.model_folder import ModelFolder, list_files

_LARGEST_HEADER = 64_000_000  # bytes; what is larger is left to the loader
_MOST_LAYERS, _MOST = 4096, 2**24
_INDEX, _WHOLE = "model.safetensors.index.json", "model.safetensors"
_LAYER = re.compile(r"(?:^|\.)layers\.(\d{1,6})\.")
#: Counts that must be possible if config.json has them.
_COUNTS = ("hidden_size", "num_attention_heads", "num_key_value_heads", "num_hidden_layers", "vocab_size", "head_dim")
#: What the rows of the input embeddings may be as long as.
_WIDTHS = ("hidden_size", "word_embed_proj_dim", "embedding_size", "d_model", "n_embd", "dim")
_EMBEDDINGS = "embed_tokens.weight"


def refuse_contradictions(folder: ModelFolder, *, indexed: bool = True) -> None:
    """`indexed`: the index counts; converters to EXL2 copy that of the original. Raises: ModelFileError, with the first
    thing that does not fit together.
    """
    try:
        why = next(_contradictions(folder, indexed=indexed), None)
    except OSError as error:
        why = f"it cannot be read ({error.strerror})"
    if why:
        raise ModelFileError(folder.path.name, f"{why}. Download the complete model again.")


def _contradictions(folder: ModelFolder, *, indexed: bool) -> Iterator[str]:
    inner = folder.config.get("text_config")
    for holder in (folder.config, inner if isinstance(inner, dict) else {}):
        for name in _COUNTS:
            most = _MOST_LAYERS if name == "num_hidden_layers" else _MOST
            value = holder.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and not 1 <= value <= most:
                yield f"its config.json is damaged: {name} is {value}"
    files = list_files(folder.path, "*.safetensors")
    if files and indexed and not (folder.path / _WHOLE).is_file():  # which goes before an index that was left there
        yield from _missing(folder.path)
    shapes: dict[str, list[int]] = {}
    for file in files:
        found = _read_shapes(file)
        if isinstance(found, str):
            yield found
        else:
            shapes.update(found or {})
    if shapes and not folder.config.get("auto_map"):  # what has its own code may use the numbers in its own way
        yield from _differences(folder, shapes)


def _missing(path: Path) -> Iterator[str]:
    """Files that the index names."""
    index = path / _INDEX
    if not index.is_file() or index.stat().st_size > _LARGEST_HEADER:
        return
    try:
        named = safe_json.loads(index.read_text(encoding="utf-8-sig"))["weight_map"].values()
        absent = sorted(name for name in {*map(str, named)} if not (path / name).is_file())
    except (ValueError, KeyError, TypeError, AttributeError):
        yield f"its {_INDEX} is damaged"
        return
    if absent:
        yield f"the file {absent[0]} is missing"


def _read_shapes(file: Path) -> dict[str, list[int]] | str | None:
    """The shape of each tensor; what is wrong with the file, as a clause; None if its header is too large.

    https://github.com/huggingface/safetensors#format
    """
    size = file.stat().st_size
    with file.open("rb") as data:
        begin = data.read(8)
        length = struct.unpack("<Q", begin)[0] if len(begin) == 8 else size
        if 8 + length > size:
            return f"{file.name} is damaged or incomplete"
        if length > _LARGEST_HEADER:
            return None
        head = data.read(length)
    try:
        tensors = safe_json.loads(head)
        tensors.pop("__metadata__", None)
        end = max((int(each["data_offsets"][1]) for each in tensors.values()), default=0)
        shapes = {str(name): [int(side) for side in each["shape"]] for name, each in tensors.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return f"{file.name} is damaged: its header cannot be read"
    if 8 + length + end > size:
        return f"{file.name} is incomplete ({size / 1e6:,.1f} of {(8 + length + end) / 1e6:,.1f} MB)"
    return shapes


def _differences(folder: ModelFolder, shapes: dict[str, list[int]]) -> Iterator[str]:
    layers = folder.number("num_hidden_layers")
    found = max((int(match[1]) + 1 for name in shapes if (match := _LAYER.search(name))), default=0)
    if layers and found and found < layers:
        yield f"config.json names {layers:,} layers, but the files contain {found:,}"
    widths = [width for name in _WIDTHS if (width := folder.number(name))]
    for name, shape in shapes.items():
        if name.endswith(_EMBEDDINGS) and len(shape) == 2 and widths and shape[1] not in widths:
            yield f"config.json says hidden_size {widths[0]:,}, but {name} has rows of {shape[1]:,} values"
