"""A folder as the base of a training, and the memory and time that a training will take."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from errors import InvalidInput, ModelFileError, Unavailable, UserError
from loaders.hf_common import packages
from modules.config.paths import Paths
from modules.library.model_catalog import ModelCatalog
from modules.training.lora.base_model import list_trainable, read_base, read_base_folder
from modules.training.lora.forecast import estimate_training_memory
from modules.training.lora.settings import LoraSettings

SETTINGS = LoraSettings.parse({"micro_batch_size": 2, "lora_rank": 4})


def test_weights_are_counted_once(tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "tiny")
    once = read_base_folder(folder).weights
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    assert read_base_folder(folder).weights == once
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = {"weight_map": dict.fromkeys(read_base_folder(tiny_folder).shapes, "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read_base_folder(folder).weights == once


def test_the_forecast_counts_what_is_there(tiny_folder: Path) -> None:
    base = read_base_folder(tiny_folder)
    plain = estimate_training_memory(base, SETTINGS, [100, 50], [], 10**10, card=False)
    assert plain.weights == 4 * base.weights
    assert plain.adapter == 16 * sum(4 * (inputs + outputs) for inputs, outputs in base.targets(("q_proj", "v_proj")))
    assert estimate_training_memory(base, SETTINGS, [200], [], 10**10, card=False).activations == pytest.approx(
        2 * plain.activations, rel=0.01
    )
    assert estimate_training_memory(base, SETTINGS, [100], [10], 10**10, card=False).activations == plain.activations
    assert estimate_training_memory(base, SETTINGS, [100], [4000], 10**10, card=False).activations > plain.activations
    whole = estimate_training_memory(base, SETTINGS.changed(load_in_4bit=True), [100], [], 10**10, card=True).weights
    assert whole == round(0.6 * (base.weights - base.looked_up) + 4 * base.looked_up)
    assert base.looked_up == 64 * 49152  # embeddings that are the output layer as well


def test_modules_that_the_model_has_not_are_named(tiny_folder: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no module named c_attn\. Its modules are: down_proj, gate_proj, k_proj"):
        read_base_folder(tiny_folder).targets(("c_attn",))


def test_what_can_be_a_base(tiny_folder: Path, demo_model_path: Path, tmp_path: Path) -> None:
    paths = Paths.under(tmp_path)
    paths.ensure()
    (paths.models / "tiny").symlink_to(tiny_folder)
    (paths.models / demo_model_path.name).symlink_to(demo_model_path)
    pickled = shutil.copytree(tiny_folder, paths.models / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    shelf = ModelCatalog(paths)
    assert list_trainable(shelf) == ["tiny"]
    for name in (demo_model_path.name, "pickled"):
        with pytest.raises(ModelFileError):
            read_base(shelf, name)
    with pytest.raises(UserError, match="Did you mean tiny"):
        read_base(shelf, "tinny")


def test_a_package_that_lacks_is_named(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = Paths.under(tmp_path)
    paths.ensure()
    (paths.models / "tiny").symlink_to(tiny_folder)
    find = packages.importlib.util.find_spec
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None if name == "peft" else find(name))
    with pytest.raises(Unavailable, match=r"Training requires the package peft\. Install it with: .*--install-torch"):
        read_base(ModelCatalog(paths), "tiny")
