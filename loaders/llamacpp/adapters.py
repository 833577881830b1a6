"""LoRA adapters on llama.cpp weights: files loaded once, and applied to a context with a scale each.

Used on the engine's thread only, while nothing is decoded. It must not know of requests.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from errors import ModelFileError
from loaders.base import Lora
from loaders.llamacpp.gguf import read_header
from loaders.llamacpp.library import C
from loaders.llamacpp.native import LlamaContext, LlamaWeights, clear_last_errors, last_error

#: Tensor types for counts and indices.
_NO_WEIGHTS = ("I8", "I16", "I32", "I64", "F64")


def check_adapter_file(path: Path) -> None:
    """Refuse files with which llama.cpp would compute nonsense or crash. Raises: ModelFileError."""
    header = read_header(path)
    strange = next((tensor for tensor in header.tensors if tensor.type in _NO_WEIGHTS), None)
    if strange:
        raise ModelFileError(
            path.name, f"its tensor {strange.name} has the type {strange.type}, which is not valid for weights."
        )
    alpha = header.metadata.get("adapter.lora.alpha", 1.0)
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise ModelFileError(path.name, f"its alpha is not a number ({alpha}).")


class LlamaCppAdapters:
    """The adapters applied to one context."""

    def __init__(self, weights: LlamaWeights, context: LlamaContext) -> None:
        self._weights = weights
        self._context = context
        self._loaded: dict[Lora, Any] = {}  # llama_adapter_lora pointers, by adapters at scale 1

    def set(self, loras: Sequence[Lora]) -> None:
        """Apply exactly these. Raises: ModelFileError, and nothing changes then."""
        new: dict[Lora, Any] = {}
        wanted = [replace(lora, scale=1.0) for lora in loras]
        try:
            for lora in set(wanted) - self._loaded.keys():
                new[lora] = self._load(str(lora.path))
            known = {**self._loaded, **new}
            self._apply([(known[kept], lora.scale) for kept, lora in zip(wanted, loras, strict=True)])
        except BaseException:
            _free(new)
            raise
        self._loaded.update(new)
        _free({lora: self._loaded.pop(lora) for lora in [*self._loaded] if lora not in wanted})

    def close(self) -> None:
        """Free their memory; the context must be closed or have none applied."""
        _free(self._loaded)
        self._loaded = {}

    def _load(self, path: str) -> Any:
        clear_last_errors()
        pointer = C.llama_adapter_lora_init(self._weights.pointer, os.fsencode(path))
        if not pointer:
            raise ModelFileError(path.replace("\\", "/").rpartition("/")[2], last_error("it does not match this model"))
        return pointer

    def _apply(self, adapters: Sequence[tuple[Any, float]]) -> None:
        pointers = (C.llama_adapter_lora_p_ctypes * len(adapters))(*(pointer for pointer, _ in adapters))
        scales = (ctypes.c_float * len(adapters))(*(scale for _, scale in adapters))
        if C.llama_set_adapters_lora(self._context.pointer, pointers, len(adapters), scales):
            raise ModelFileError("The adapter", "llama.cpp cannot apply it to this model.")


def _free(adapters: dict[Lora, Any]) -> None:
    for pointer in adapters.values():
        C.llama_adapter_lora_free(pointer)
