"""A model folder as the base of a training: its layers, read from the headers of its weights. Imports nothing heavy.

It knows shapes and numbers; it must not know how anything is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import InvalidInput, ModelFileError, Unavailable
from loaders import safe_json
from loaders.hf_common import packages
from loaders.huggingface import folder
from loaders.huggingface.folder import TransformersFolder
from modules.library.model_catalog import ModelCatalog

_EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings", "wpe")
_HEADS = ("lm_head", "embed_out")


@dataclass(frozen=True)
class TrainingBase:
    """A folder, and the shape of each of its tensors by name."""

    folder: TransformersFolder
    shapes: dict[str, tuple[int, ...]]

    @property
    def weights(self) -> int:
        """The number of parameters."""
        return sum(_product(shape) for shape in self.shapes.values())

    @property
    def computed(self) -> int:
        """The parameters that each token is multiplied with; a tied embedding is also the output layer."""
        looked_up = sum(_product(shape) for name, shape in self.shapes.items() if any(e in name for e in _EMBEDDINGS))
        return self.weights - looked_up + self.vocabulary * self.width * (not self._has_head)

    @property
    def looked_up(self) -> int:
        """The parameters of embeddings and of an output layer, which are not quantized."""
        return sum(
            _product(shape) for name, shape in self.shapes.items() if any(e in name for e in (*_EMBEDDINGS, *_HEADS))
        )

    @property
    def vocabulary(self) -> int:
        return self.folder.number("vocab_size")

    @property
    def width(self) -> int:
        return self.folder.number("hidden_size", "n_embd", "d_model")

    @property
    def layers(self) -> int:
        return self.folder.number("num_hidden_layers", "n_layer", "n_layers")

    def targets(self, names: Sequence[str]) -> list[tuple[int, int]]:
        """(inputs, outputs) of each layer with these names. Raises: InvalidInput for a name without a layer."""
        found: list[tuple[int, int]] = []
        linear = {name.removesuffix(".weight"): shape for name, shape in self.shapes.items() if len(shape) == 2}
        for wanted in names:
            fitting = [shape for name, shape in linear.items() if name.rpartition(".")[2] == wanted]
            if not fitting:
                has = sorted({name.rpartition(".")[2] for name in linear if not any(e in name for e in _EMBEDDINGS)})
                raise InvalidInput(
                    f"{self.folder.path.name} has no module named {wanted}. Its modules are: {', '.join(has)}."
                )
            found += [(shape[1], shape[0]) for shape in fitting]
        return found

    @property
    def modules(self) -> tuple[str, ...]:
        """The names of its layers, each once."""
        linear = (name.removesuffix(".weight") for name, shape in self.shapes.items() if len(shape) == 2)
        return tuple(sorted({name.rpartition(".")[2] for name in linear}))

    @property
    def _has_head(self) -> bool:
        return any(head in name for name in self.shapes for head in _HEADS)


def read_base(shelf: ModelCatalog, name: str) -> TrainingBase:
    """The model of this name as a base. Raises: UnknownName, ModelFileError, Unavailable, InvalidInput."""
    if not name:
        raise InvalidInput("Choose a base model: a folder in models/ with config.json and safetensors.")
    if why := packages.explain_missing("Training", (*packages.NEEDED, "peft", "datasets", "accelerate")):
        raise Unavailable(why)
    item = shelf.find(name)
    if item.path.is_file():
        raise ModelFileError(
            name,
            "LoRAs are trained on folders with safetensors, but this is a single file. Download the model's "
            "original repository, train on that, and use the adapter with this file.",
        )
    return read_base_folder(item.path)


def read_base_folder(path: Path) -> TrainingBase:
    """A folder as a base. Raises: ModelFileError."""
    read = folder.read_folder(path)
    declared: Any = read.config.get("quantization_config")
    if isinstance(declared, dict) and str(declared.get("quant_method", "")) not in ("", "bitsandbytes"):
        raise ModelFileError(path.name, "it is quantized; training requires an unquantized model.")
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    for file in _files(path):
        try:
            with safe_open(file, framework="numpy") as opened:
                shapes.update({name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()})  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ModelFileError(path.name, f"{file.name} is damaged ({error}). Download it again.") from None
    return TrainingBase(read, shapes)


def list_trainable(shelf: ModelCatalog) -> list[str]:
    """The names of the models that can be a base: folders that transformers loads without remote code."""
    return [item.name for item in shelf.items() if item.path.is_dir() and _suits(item.path)]


def _suits(path: Path) -> bool:
    try:
        return folder.rate_folder(path) >= 60 and bool(folder.read_folder(path))
    except ModelFileError:
        return False


def _files(path: Path) -> list[Path]:
    """The weight files: those of the index, if there is one; others may contain the same weights again."""
    try:
        index = safe_json.loads((path / "model.safetensors.index.json").read_text("utf-8"))["weight_map"].values()
        return [path / name for name in sorted(set(index))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        one = path / "model.safetensors"
        return [one] if one.is_file() else sorted(path.glob("*.safetensors"))


def _product(shape: Sequence[int]) -> int:
    product = 1
    for each in shape:
        product *= each
    return product
