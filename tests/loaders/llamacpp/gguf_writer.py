"""Writes a GGUF file of a few F32 tensors for tests: version 3, metadata of text and numbers."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

_UINT32, _FLOAT32, _STRING = 4, 6, 8
_ALIGNMENT = 32


def write_gguf(
    path: Path, metadata: Mapping[str, str | int | float], tensors: Mapping[str, npt.NDArray[np.float32]]
) -> None:
    """Tensors in NumPy's order of axes: shape (rows, columns) is stored as ne = (columns, rows)."""
    header = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        header += _text(key)
        if isinstance(value, str):
            header += struct.pack("<I", _STRING) + _text(value)
        elif isinstance(value, float):
            header += struct.pack("<If", _FLOAT32, value)
        else:
            header += struct.pack("<II", _UINT32, value)
    body = b""
    for name, tensor in tensors.items():
        sizes = tensor.shape[::-1]
        header += _text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, 0, len(body))
        body += _padded(np.ascontiguousarray(tensor, np.float32).tobytes())
    path.write_bytes(_padded(header) + body)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGNMENT)
