"""LoRA adapters on ExLlamaV2's weights: loaded when they are applied, and unloaded afterwards.

Used by the engine's thread only, while nothing is being computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exllamav2 import ExLlamaV2Lora

from errors import IncompatibleAdapter
from loaders.base import Lora


class ExLlamaV2Adapters:
    """The loaded adapters, by path and scale."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._loaded: dict[Lora, Any] = {}

    def set(self, wanted: Sequence[Lora]) -> list[Any] | None:
        """Load exactly these; returns exllamav2's objects, or None for none.

        On an error, the previous ones stay loaded. Raises: IncompatibleAdapter.
        """
        fresh: dict[Lora, Any] = {}
        try:
            for lora in wanted:
                if lora not in self._loaded and lora not in fresh and lora.scale != 0:
                    fresh[lora] = self._read(lora)
        except BaseException:
            self._drop(fresh)
            raise
        self._drop({lora: each for lora, each in self._loaded.items() if lora not in wanted})
        self._loaded = {lora: each for lora, each in {**self._loaded, **fresh}.items() if lora in wanted}
        # an empty list is not the same: exllamav2's output layer reads its first element
        return [self._loaded[lora] for lora in dict.fromkeys(wanted) if lora in self._loaded] or None

    def _read(self, lora: Lora) -> Any:
        folder, name = lora.path, lora.path.name
        config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
        if not config.is_file():
            raise IncompatibleAdapter(name, "it is not a folder with an adapter_config.json")
        if not weights.is_file():
            # exllamav2 would unpickle adapter_model.bin, which can run any code
            raise IncompatibleAdapter(
                name, "it has no adapter_model.safetensors; other formats are not loaded for security reasons"
            )
        before = self._tensors()
        try:
            return ExLlamaV2Lora(self._model, str(config), str(weights), lora.scale)
        except (AssertionError, ValueError, KeyError, IndexError, OSError, TypeError) as error:
            self._restore(before)
            told = str(error).strip(" #'\"").removeprefix("Error: ")[:200]
            why = "it was made for another model, or it changes parts that ExLlamaV2 does not support"
            raise IncompatibleAdapter(name, f"{why} ({type(error).__name__}: {told})") from error
        except BaseException:
            self._restore(before)
            raise

    def _drop(self, loras: dict[Lora, Any]) -> None:
        for each in loras.values():
            each.unload()

    def _holders(self) -> list[dict[Any, Any]]:
        modules = self._model.modules_dict.values()
        names = ("lora_a_tensors", "lora_b_tensors")
        return [getattr(module, name) for module in modules for name in names if hasattr(module, name)]

    def _tensors(self) -> list[dict[Any, Any]]:
        return [dict(holder) for holder in self._holders()]

    def _restore(self, before: list[dict[Any, Any]]) -> None:
        """Remove what a partly loaded adapter has left in the layers."""
        for holder, held in zip(self._holders(), before, strict=True):
            holder.clear()
            holder.update(held)
        self._model.update_loras()


def resolve_paths(loras: Sequence[Lora]) -> list[Lora]:
    """The adapters with absolute paths, so that another spelling of a path is recognized, and with their versions."""
    return [Lora(Path(lora.path).resolve(), lora.scale).as_stored() for lora in loras]
