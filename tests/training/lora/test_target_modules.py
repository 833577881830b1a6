"""Models whose layers are not named like Llama's are trained on the modules of peft's own table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modules.training.lora.base_model import read_base_folder
from modules.training.lora.settings import LoraSettings
from modules.training.lora.target_modules import MORE as MORE_MODULES
from modules.training.lora.target_modules import PEFT, choose_target_modules
from tests.training.conftest import new_root
from tests.training.test_lora import losses, trained
from tests.zoo.folders import FOLDERS, folder_of
from tests.zoo.test_caches import MORE

LLAMA = ("q_proj", "v_proj")


def test_the_table_is_pefts() -> None:
    constants = pytest.importorskip("peft.utils.constants")
    theirs = constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    assert {kind: tuple(theirs[kind]) for kind in PEFT} == dict(PEFT)
    assert not set(MORE_MODULES) & set(theirs), "peft has a row for it now"


@pytest.mark.parametrize(
    ("kind", "has", "expected"),
    [
        ("gpt2", ("c_attn", "c_fc", "c_proj", "wte"), ("c_attn",)),
        ("gpt_neox", ("dense", "query_key_value"), ("query_key_value",)),
        ("falcon", ("dense", "query_key_value"), ("query_key_value",)),
        ("bloom", ("query_key_value",), ("query_key_value",)),
        ("phi3", ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"), ("qkv_proj",)),
        ("mamba", ("in_proj", "x_proj", "out_proj"), ("in_proj", "x_proj")),
        ("llama", ("q_proj", "v_proj"), LLAMA),
        ("gpt2", ("q_proj",), LLAMA),  # one of those that were chosen is there: the rest is named
        ("gpt2", ("other",), LLAMA),
        ("unknown", ("query_key_value",), LLAMA),
    ],
)
def test_what_fits(kind: str, has: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert choose_target_modules(kind, LLAMA, has) == expected


@pytest.mark.parametrize(
    ("values", "targets"),
    [
        ({}, LLAMA),
        ({"target_modules": "c_attn"}, ("c_attn",)),
        ({"target_modules": " a, b,,a "}, ("a", "b")),
        ({"target_modules": " , "}, LLAMA),
        ({"target_modules": "c_attn", "q_proj_en": False, "v_proj_en": False}, ("c_attn",)),
    ],
)
def test_named_modules_count_in_place_of_the_boxes(values: dict[str, object], targets: tuple[str, ...]) -> None:
    assert LoraSettings.parse(values).targets == targets


def test_a_base_names_its_modules(tiny_folder: Path) -> None:
    assert {"q_proj", "v_proj", "down_proj"} <= set(read_base_folder(tiny_folder).modules)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "falcon", "phi3", "bloom"])
def test_they_train_as_they_are_chosen(tmp_path: Path, kind: str) -> None:
    """With the page's boxes as they stand, which are Llama's names: the note says what was trained instead."""
    pytest.importorskip("peft")
    place = folder_of(FOLDERS.get(kind) or MORE["gpt-neox"], tmp_path / "base")
    root = new_root(tmp_path / "root", base=place)
    settings = LoraSettings.parse(
        {
            "lora_name": "mine", "model": "base", "dataset": "rows", "format": "alpaca-format", "batch_size": 4,
            "micro_batch_size": 4, "epochs": 1, "learning_rate": 1e-2, "warmup_steps": 0, "lora_rank": 4,
        }
    )  # fmt: skip
    state = trained(root, settings)
    adapter = json.loads((root / "loras" / "mine" / "adapter_config.json").read_text())
    expected = PEFT.get(kind) or MORE_MODULES[kind]
    assert set(adapter["target_modules"]) == set(expected)
    assert any(name in note for name in expected for note in state.notes)
    assert all(0 < loss < 20 for loss in losses(root / "loras" / "mine").values())
