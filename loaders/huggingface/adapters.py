"""LoRA adapters on a transformers model, through peft: several at once, each with its own scale.

Used by the engine's thread only, while nothing is computed. Without adapters the output is exactly the base model's:
adapters are separate from the weights and never change them.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from errors import IncompatibleAdapter, Unavailable
from loaders.base import Lora
from loaders.hf_common.packages import INSTALL


class PeftAdapters:
    """The adapters on the model, by name."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._names: dict[Lora, str] = {}
        self._made = 0

    def set(self, wanted: Sequence[Lora]) -> None:
        """Apply exactly these. On an error, the previous ones stay active. Raises: IncompatibleAdapter."""
        wanted = [lora for lora in dict.fromkeys(wanted) if lora.scale != 0]
        fresh: dict[Lora, str] = {}
        try:
            for lora in wanted:
                if lora not in self._names:
                    fresh[lora] = self._add(lora)
        except BaseException:
            self._drop(fresh.values())
            self._switch()
            raise
        self._drop(name for lora, name in self._names.items() if lora not in wanted)
        known = {**self._names, **fresh}
        self._names = {lora: known[lora] for lora in wanted}
        self._switch()

    def _add(self, lora: Lora) -> str:
        folder = lora.path
        if importlib.util.find_spec("peft") is None:
            raise Unavailable(f"LoRA adapters require the package peft. Install it with: {INSTALL}")
        if not (folder / "adapter_config.json").is_file():
            raise IncompatibleAdapter(folder.name, "it is not a folder with an adapter_config.json")
        if not (folder / "adapter_model.safetensors").is_file():
            raise IncompatibleAdapter(
                folder.name, "it has no adapter_model.safetensors; other formats are not loaded for security reasons"
            )
        self._made += 1
        name = f"lora{self._made}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # another adapter already exists on purpose
                found = self._model.load_adapter(str(folder), adapter_name=name)
            self._check(folder, found)
            self._scale(name, lora.scale)
        except IncompatibleAdapter:
            self._drop([name])
            raise
        except Exception as error:
            if name in (getattr(self._model, "peft_config", None) or {}):
                self._drop([name])
            told = " ".join(str(error).split())[:200].rstrip(".")
            raise IncompatibleAdapter(folder.name, f"it was made for another model ({told})") from None
        return name

    def _check(self, folder: Path, found: Any) -> None:
        """Transformers only reports tensors that do not fit instead of refusing them."""
        strange = getattr(found, "unexpected_keys", None)
        wrong = getattr(found, "mismatched_keys", None)
        if strange or wrong:
            raise IncompatibleAdapter(folder.name, "it was made for another model: its tensors do not match this one")

    def _scale(self, name: str, scale: float) -> None:
        if scale == 1:
            return
        from peft.tuners.tuners_utils import BaseTunerLayer

        for module in self._model.modules():
            if isinstance(module, BaseTunerLayer) and name in getattr(module, "scaling", {}):
                module.set_scale(name, scale)

    def _switch(self) -> None:
        """Activate the requested ones; without any, the layers behave like the base model's."""
        if self._names:
            self._model.set_adapter(list(self._names.values()))
            self._model.enable_adapters()
        elif getattr(self._model, "_hf_peft_config_loaded", False):
            self._model.disable_adapters()

    def _drop(self, names: Iterable[str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the active ones are set right after
            for name in list(names):
                self._model.delete_adapter(name)
