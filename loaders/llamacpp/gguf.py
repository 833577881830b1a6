"""Reads the header of a GGUF file: metadata and tensor list, without the weights and without the vocabulary.

Reading it takes about a millisecond per megabyte of vocabulary, needs no engine, and reports a damaged, truncated or
non-GGUF file with a sentence before llama.cpp sees it. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

This module must not import llama_cpp: the catalog lists hundreds of files through it.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import ModelFileError
from loaders.llamacpp.header_check import explain_contradiction

#: ggml type number -> (name, elements per block, bytes per block).
TENSOR_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}  # fmt: skip

#: `general.file_type` -> the quantization's usual name.
FILE_TYPES: Mapping[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS",
    20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M",
    28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip

_SCALARS: Mapping[int, str] = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_FORMS = {code: struct.Struct("<" + code) for code in _SCALARS.values()}
_STRING, _ARRAY = 8, 9
_LONGEST_ARRAY_KEPT = 1024  # vocabularies are skipped; per-layer lists (heads, windows) are kept
_LONGEST_WORD = 64  # maximum average bytes of a word in a vocabulary, including its length
_NEXT_KEY = re.compile(rb"tokenizer\.(?:ggml\.[a-z_]{3,40}|chat_template)")
_BROKEN = (struct.error, IndexError, OverflowError, UnicodeDecodeError, ValueError, TypeError, RecursionError)
#: The tensors that llama.cpp's --n-cpu-moe moves.
_EXPERTS = re.compile(r"blk\.(\d{1,4})\.ffn_(?:up|down|gate|gate_up)_(?:ch)?exps")
_SPLIT_NAME = re.compile(r"^(?P<stem>.+)-(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """The position of one tensor. `size` in bytes; `offset` from the start of the file's data section."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """The contents of a GGUF header. `size` is the total bytes of all parts of a split model."""

    path: Path
    parts: tuple[Path, ...]
    size: int
    metadata: Mapping[str, Any]
    tensors: tuple[GGUFTensor, ...]

    def get(self, key: str, default: Any = None) -> Any:
        """A metadata value with the architecture's prefix: `get("context_length")`."""
        return self.metadata.get(f"{self.architecture}.{key}", default)

    @property
    def architecture(self) -> str:
        """llama, qwen2, gemma ... or "unknown"."""
        return str(self.metadata.get("general.architecture", "unknown"))

    @property
    def context_length(self) -> int:
        """The context length of training in tokens; 0 if unknown."""
        return int(self.get("context_length", 0))

    @property
    def n_layers(self) -> int:
        """Transformer blocks, without the output layer."""
        return int(self.get("block_count", 0))

    @property
    def n_expert_blocks(self) -> int:
        """The blocks up to the last one that contains experts; 0 for a dense model."""
        found = (_EXPERTS.match(tensor.name) for tensor in self.tensors)
        return max((int(match[1]) + 1 for match in found if match), default=0)

    @property
    def head_sizes(self) -> frozenset[int]:
        """Values of a key in one attention head: one size, or those of layers with and without a sliding window."""
        heads = self.get("attention.head_count", 0)
        width = int(self.get("embedding_length", 0)) // max(max(heads) if isinstance(heads, list) else heads, 1)
        size = int(self.get("attention.key_length", width))
        return frozenset({size, int(self.get("attention.key_length_swa", size))})

    @property
    def n_heads(self) -> int:
        """Query heads of the layer that has the most; 0 if unknown."""
        heads = self.get("attention.head_count", 0)
        return int(max(heads, default=0) if isinstance(heads, list) else heads)

    @property
    def scales_keys(self) -> bool:
        """Whether RoPE also scales keys (YaRN, LongRoPE): a shift would scale them again."""
        factor = float(self.get("rope.scaling.attn_factor", 1.0) or 1.0)
        return self.get("rope.scaling.type") in ("yarn", "longrope") or factor != 1.0

    @property
    def n_params(self) -> int:
        """The number of weights, over all parts that were read."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @property
    def quantization(self) -> str:
        """Q4_K_M, F16 ...: as the file says, else the type of most of its bytes."""
        named = FILE_TYPES.get(int(self.metadata.get("general.file_type", -1)))
        if named:
            return named
        bytes_of: dict[str, int] = {}
        for tensor in self.tensors:
            bytes_of[tensor.type] = bytes_of.get(tensor.type, 0) + tensor.size
        return max(bytes_of, key=lambda name: bytes_of[name], default="unknown")

    @property
    def chat_template(self) -> str | None:
        """The Jinja chat template in the metadata, if there is one."""
        template = self.metadata.get("tokenizer.chat_template")
        return template if isinstance(template, str) and template.strip() else None


def split_parts(path: Path) -> tuple[Path, ...]:
    """All parts of a split GGUF, given any of them; the path itself if it is a single file."""
    match = _SPLIT_NAME.match(path.name)
    if not match or not 1 <= int(match["part"]) <= int(match["count"]):
        return (path,)
    count = int(match["count"])
    return tuple(path.with_name(f"{match['stem']}-{i:05d}-of-{count:05d}.gguf") for i in range(1, count + 1))


def read_header(path: Path) -> GGUFHeader:
    """Read and check the header of a GGUF (all parts of a split one). Raises: ModelFileError."""
    parts = split_parts(path)
    absent = [part.name for part in parts if not part.is_file()]
    if absent:
        what = f"the part {absent[0]} is missing" if len(parts) > 1 else "the file does not exist"
        raise ModelFileError(path.name, f"{what}. Download the complete model again.")
    headers = [_read_part(part) for part in parts]
    header = GGUFHeader(
        path=parts[0],
        parts=parts,
        size=sum(part.stat().st_size for part in parts),
        metadata=headers[0][0],
        tensors=tuple(tensor for _, tensors in headers for tensor in tensors),
    )
    try:
        _ = header.context_length, header.n_layers, header.quantization, header.scales_keys
        epsilons = [header.get(f"attention.layer_norm{kind}_epsilon", 0.0) for kind in ("", "_rms")]
        sound = all(math.isfinite(epsilon) and epsilon >= 0 for epsilon in epsilons)  # llama.cpp would abort
    except (TypeError, ValueError, OverflowError):
        sound = False
    if not sound:
        raise ModelFileError(path.name, "its header is damaged: the metadata is invalid. Download it again.")
    if why := explain_contradiction(header):
        raise ModelFileError(path.name, f"its header contradicts itself: {why}. Download it again.")
    return header


def _read_part(path: Path) -> tuple[dict[str, Any], tuple[GGUFTensor, ...]]:
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ModelFileError(
                    path.name, "it is not a GGUF file. Choose another loader, or a file that ends in .gguf."
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                try:
                    return _Reader(data, path.name).header()
                except (*_BROKEN, ModelFileError):  # unless only the skipping went wrong
                    return _Reader(data, path.name, jumps=False).header()
    except _BROKEN:
        raise ModelFileError(path.name, "its header is damaged or incomplete. Download it again.") from None
    except OSError as error:
        raise ModelFileError(path.name, f"it cannot be read ({error.strerror}).") from None


class _Reader:
    """A cursor over the bytes of one file."""

    def __init__(self, data: mmap.mmap, name: str, *, jumps: bool = True) -> None:
        self.data = data
        self.name = name
        self.jumps = jumps  # skip vocabularies up to the next recognized key
        self.at = 4
        version = self.scalar("I")
        if version & 0xFFFF == 0:
            raise ModelFileError(name, "it is a big-endian GGUF file, but this machine is little-endian.")
        if version not in (2, 3):
            raise ModelFileError(name, f"its GGUF version {version} is not supported. Update this program.")

    def header(self) -> tuple[dict[str, Any], tuple[GGUFTensor, ...]]:
        n_tensors, n_pairs = self.scalar("Q"), self.scalar("Q")
        # 24 and 13 bytes are the minimum of a tensor and a key-value pair: an absurd count fails here, not in a loop
        if n_tensors * 24 + n_pairs * 13 > len(self.data):
            raise ModelFileError(self.name, "its header is damaged (implausible counts). Download it again.")
        metadata: dict[str, Any] = {}
        for _ in range(n_pairs):
            if not (key := self.string()):
                raise ValueError(key)
            metadata[key] = self.value(self.scalar("I"))
        tensors = tuple(self.tensor() for _ in range(n_tensors))
        alignment = int(metadata.get("general.alignment", 32)) or 32
        start = -(-self.at // alignment) * alignment
        end = max((start + tensor.offset + tensor.size for tensor in tensors), default=start)
        if end > len(self.data):
            raise ModelFileError(
                self.name,
                f"it is incomplete ({len(self.data) / 1e6:,.0f} of {end / 1e6:,.0f} MB). Download it again.",
            )
        return metadata, tensors

    def scalar(self, code: str) -> Any:
        form = _FORMS[code]
        (value,) = form.unpack_from(self.data, self.at)
        self.at += form.size
        return value

    def skip(self, count: int) -> None:
        if count < 0 or self.at + count > len(self.data):
            raise IndexError
        self.at += count

    def string(self) -> str:
        length = self.scalar("Q")
        start = self.at
        self.skip(length)
        return self.data[start : self.at].decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array()
        if kind not in _SCALARS:
            raise ValueError(kind)
        return self.scalar(_SCALARS[kind])

    def array(self) -> list[Any] | None:
        kind, count = self.scalar("I"), self.scalar("Q")
        if kind in _SCALARS:
            if count <= _LONGEST_ARRAY_KEPT:
                return [self.scalar(_SCALARS[kind]) for _ in range(count)]
            self.skip(count * struct.calcsize("<" + _SCALARS[kind]))
            return None
        if count * 8 > len(self.data):
            raise IndexError
        if kind == _STRING and count > _LONGEST_ARRAY_KEPT:
            if self._jump(count):
                return None
            unpack, data, at, end = struct.Struct("<Q").unpack_from, self.data, self.at, len(self.data)
            for _ in range(count):
                at += 8 + unpack(data, at)[0]
                if at > end:
                    raise IndexError
            self.at = at
            return None
        return [self.value(kind) for _ in range(count)]

    def _jump(self, count: int) -> bool:
        """Skip a vocabulary to the next key without reading its words; False if no key is recognized.

        A key is recognized if it begins like the keys that follow vocabularies, with its own length before it. If a
        word looks exactly like that, or another key comes before it, the following data is invalid, and the file is
        read in full.
        """
        if not self.jumps:
            return False
        end = min(len(self.data), self.at + count * _LONGEST_WORD)
        start = self.at + count * 8
        while (start := self.data.find(b"tokenizer.", start, end)) >= 0:
            (length,) = struct.unpack_from("<Q", self.data, start - 8)
            match = _NEXT_KEY.match(self.data, start)
            if match and length == match.end() - start:
                self.at = start - 8
                return True
            start += 1
        return False

    def tensor(self) -> GGUFTensor:
        name = self.string()
        n_dims = self.scalar("I")
        if not 0 <= n_dims <= 8:
            raise ValueError(n_dims)
        *shape, type_number, offset = struct.unpack_from(f"<{n_dims}QIQ", self.data, self.at)
        self.at += 8 * n_dims + 12
        type_name, block, block_bytes = TENSOR_TYPES.get(type_number, (f"type {type_number}", 1, 0))
        return GGUFTensor(name, tuple(shape), type_name, offset, math.prod(shape) // block * block_bytes)
