"""LoRA adapters on ExLlamaV2's weights: brought in when they are to act, taken out again when not.

Used by the engine's thread alone, while nothing is being computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exllamav2 import ExLlamaV2Lora

from errors import AdapterUnfit
from loaders.base import Lora


class Adapters:
    """The adapters that are in memory, by path and scale."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._loaded: dict[Lora, Any] = {}

    def set(self, wanted: Sequence[Lora]) -> list[Any] | None:
        """Have these in memory and no others; returns exllamav2's objects, or None for none.

        With an error, those that were there before still are. Raises: AdapterUnfit.
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
        # an empty list is not the same: exllamav2's output layer looks at the first of them
        return [self._loaded[lora] for lora in dict.fromkeys(wanted) if lora in self._loaded] or None

    def _read(self, lora: Lora) -> Any:
        folder, name = lora.path, lora.path.name
        config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
        if not config.is_file():
            raise AdapterUnfit(name, "it is not a folder with an adapter_config.json")
        if not weights.is_file():
            # exllamav2 would unpickle adapter_model.bin, which can run any code
            raise AdapterUnfit(name, "it has no adapter_model.safetensors, and other files are not read for safety")
        before = self._tensors()
        try:
            return ExLlamaV2Lora(self._model, str(config), str(weights), lora.scale)
        except (AssertionError, ValueError, KeyError, IndexError, OSError, TypeError) as error:
            self._restore(before)
            told = str(error).strip(" #'\"").removeprefix("Error: ")[:200]
            why = f"it was made for another model, or it changes what ExLlamaV2 cannot ({type(error).__name__}: {told})"
            raise AdapterUnfit(name, why) from error
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
        """Take out what an adapter that failed half-way has left in the layers."""
        for holder, held in zip(self._holders(), before, strict=True):
            holder.clear()
            holder.update(held)
        self._model.update_loras()


def sensible(loras: Sequence[Lora]) -> list[Lora]:
    """The adapters with whole paths, so that the same one is known again under another spelling."""
    return [Lora(Path(lora.path).resolve(), lora.scale) for lora in loras]
