"""A model folder as a base for training: its layers by the headers of its weights. Nothing heavy is imported.

It knows shapes and numbers; it must not know how anything is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import InvalidInput, ModelFileError, Unavailable
from loaders import plain_json
from loaders.hf import packages
from loaders.huggingface import folder
from loaders.huggingface.folder import Folder
from modules.library.shelf import Shelf

_EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings", "wpe")
_HEADS = ("lm_head", "embed_out")


@dataclass(frozen=True)
class Base:
    """A folder, and the shape of each of its tensors by name."""

    folder: Folder
    shapes: dict[str, tuple[int, ...]]

    @property
    def weights(self) -> int:
        """How many numbers the model holds."""
        return sum(_product(shape) for shape in self.shapes.values())

    @property
    def computed(self) -> int:
        """Of these, those that each token is multiplied with; a tied embedding is the output layer as well."""
        looked_up = sum(_product(shape) for name, shape in self.shapes.items() if any(e in name for e in _EMBEDDINGS))
        return self.weights - looked_up + self.vocabulary * self.width * (not self._has_head)

    @property
    def looked_up(self) -> int:
        """Of these, those of embeddings and of an output layer: they are left as they are when a base is quantized."""
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
        """(inputs, outputs) of each layer of these names. Raises: InvalidInput, for a name that fits none."""
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


def read_base(shelf: Shelf, name: str) -> Base:
    """The model of this name as a base. Raises: UnknownName, ModelFileError, Unavailable, InvalidInput."""
    if not name:
        raise InvalidInput("Choose the base model: a folder of models/ with config.json and safetensors.")
    if why := packages.missing("Training", (*packages.NEEDED, "peft", "datasets", "accelerate")):
        raise Unavailable(why)
    item = shelf.find(name)
    if item.path.is_file():
        raise ModelFileError(
            name,
            "LoRAs are trained on folders with safetensors, and this is a single file. Download the model's original "
            "repository, train on that, and use the adapter with it.",
        )
    return base_at(item.path)


def base_at(path: Path) -> Base:
    """A folder as a base. Raises: ModelFileError."""
    read = folder.read(path)
    declared: Any = read.config.get("quantization_config")
    if isinstance(declared, dict) and str(declared.get("quant_method", "")) not in ("", "bitsandbytes"):
        raise ModelFileError(path.name, "it is quantized, and only unquantized models can be trained on here.")
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    for file in _files(path):
        try:
            with safe_open(file, framework="numpy") as opened:
                shapes.update({name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()})  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ModelFileError(path.name, f"{file.name} is damaged ({error}). Download it again.") from None
    return Base(read, shapes)


def trainable(shelf: Shelf) -> list[str]:
    """The names of the models that can be a base: folders that transformers reads without more leave."""
    return [item.name for item in shelf.items() if item.path.is_dir() and _suits(item.path)]


def _suits(path: Path) -> bool:
    try:
        return folder.suits(path) >= 60 and bool(folder.read(path))
    except ModelFileError:
        return False


def _files(path: Path) -> list[Path]:
    """The files of the weights: those of the index, where there is one; others may hold the same weights again."""
    try:
        index = plain_json.loads((path / "model.safetensors.index.json").read_text("utf-8"))["weight_map"].values()
        return [path / name for name in sorted(set(index))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        one = path / "model.safetensors"
        return [one] if one.is_file() else sorted(path.glob("*.safetensors"))


def _product(shape: Sequence[int]) -> int:
    product = 1
    for each in shape:
        product *= each
    return product
