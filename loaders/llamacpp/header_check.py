"""Compares a GGUF's metadata with its list of tensors: what contradicts itself is refused before anything is loaded.

Only what holds for every architecture is compared; llama.cpp itself compares the rest, in a trial (load_trial.py).
Pure; it must not read a file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loaders.llamacpp.gguf import GGUFHeader

#: llama.cpp's maximum of layers (LLAMA_MAX_LAYERS); and more than any model has, of all other counts.
MOST_LAYERS, _MOST = 512, 2**24
_BLOCK = re.compile(r"blk\.(\d{1,9})\.(.+)")
_ATTENTION = re.compile(r"attn_(?:q|qkv|q_a)\.weight")
#: One dimension of these is the width of the model, in every architecture.
_WIDE = ("token_embd.weight", "output_norm.weight")
_NORM = "attn_norm.weight"
#: Counts whose value must be possible, if the header has them.
_COUNTS = (
    "embedding_length", "feed_forward_length", "expert_count", "expert_used_count",
    "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length",
)  # fmt: skip
#: Parts of models whose numbers are in other places.
_PARTS = ("clip", "wavtokenizer-dec")


def explain_contradiction(header: GGUFHeader) -> str | None:
    """What does not fit together, as a clause; None if nothing is known to be wrong."""
    if header.metadata.get("general.type") == "adapter" or header.architecture in _PARTS:
        return None
    return next(_contradictions(header), None)


def _contradictions(header: GGUFHeader) -> Iterator[str]:
    for key in _COUNTS:
        for value in _all(header.get(key, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
                yield f"{key} is {value!r:.40}"
    if any(size > _MOST**2 or size < 1 for tensor in header.tensors for size in tensor.shape):
        yield "a tensor has an impossible shape"
    for tensor in header.tensors:
        if math.prod(tensor.shape) > 2**60:
            yield f"{tensor.name[:60]} has an impossible shape"
    blocks = [(int(match[1]), match[2], tensor) for tensor in header.tensors if (match := _BLOCK.match(tensor.name))]
    yield from _layers(header, max((number for number, _, _ in blocks), default=-1) + 1)
    if any(_ATTENTION.fullmatch(part) for _, part, _ in blocks):
        if not any(value > 0 for value in _all(header.get("attention.head_count", 1))):
            yield "it has attention layers, but attention.head_count is 0"
        if header.get("embedding_length", 1) == 0:
            yield "embedding_length is 0"
    yield from _widths(header, [tensor for _, part, tensor in blocks if part == _NORM])


def _layers(header: GGUFHeader, last: int) -> Iterator[str]:
    """`last`: the number of layers by the names of the tensors."""
    stated = header.get("block_count")
    if not isinstance(stated, int) or not last:
        return
    if not 1 <= stated <= MOST_LAYERS:
        yield f"block_count is {stated:,}, but a model has 1 to {MOST_LAYERS} layers"
    extra = header.get("nextn_predict_layers", 0)  # they may be left out of a file
    empty = isinstance(header.get("attention.head_count"), list)  # some layers may have no tensors
    if last > stated or (last < stated - (extra if isinstance(extra, int) else 0) and not empty):
        yield f"block_count is {stated:,}, but it has the tensors of {last:,} layers"


def _widths(header: GGUFHeader, norms: list[Any]) -> Iterator[str]:
    width = header.get("embedding_length")
    if not isinstance(width, int):
        return
    for tensor in (*(each for each in header.tensors if each.name in _WIDE), *norms):
        if tensor.shape and tensor.shape[0] != width:
            yield f"embedding_length is {width:,}, but {tensor.name} has rows of {tensor.shape[0]:,} values"
            return


def _all(value: Any) -> list[Any]:
    """The value of each layer, or the one of all; none if the list was too long to be read."""
    return value if isinstance(value, list) else [] if value is None else [value]
