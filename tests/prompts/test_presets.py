"""Presets: the shipped ones are those of the original, and other programs' presets are read tolerantly."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from errors import BadFile, InvalidName, UnknownName
from loaders.params import SamplingParams
from modules.config.paths import Paths
from modules.prompts.presets import Presets

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "presets").mkdir()
    return tmp_path / "presets"


@pytest.fixture
def presets(tmp_path: Path, folder: Path) -> Presets:
    return Presets(Paths.under(tmp_path))


def test_every_shipped_preset_is_understood_and_differs_from_the_defaults() -> None:
    shipped = Presets(Paths.under(ROOT))
    assert len(shipped.names()) >= 13
    for name in shipped.names():
        values, notes = shipped.load(name)
        assert notes == (), name
        assert name == "Null preset" or all(SamplingParams.knobs()[key].default != values[key] for key in values)


def test_the_default_preset() -> None:
    params = Presets(Paths.under(ROOT)).apply(SamplingParams(), "simple-1")
    assert (params.temperature, params.top_p, params.top_k, params.repetition_penalty) == (0.7, 0.9, 20, 1.15)


def test_applying_resets_what_it_leaves_out_and_keeps_what_no_preset_holds(presets: Presets, folder: Path) -> None:
    (folder / "warm.yaml").write_text("temperature: 1.3\n")
    before = SamplingParams.parse({"top_k": 7, "seed": 42, "max_new_tokens": 99})
    after = presets.apply(before, "warm")
    assert (after.temperature, after.top_k, after.seed, after.max_new_tokens) == (1.3, 0, 42, 99)


def test_saved_and_loaded_again(presets: Presets, folder: Path) -> None:
    params = SamplingParams.parse({"min_p": 0.1, "seed": 3, "sampler_priority": ["top_k", "temperature"]})
    presets.save("My Preset", params)
    assert yaml.safe_load((folder / "My Preset.yaml").read_text()) == {
        "min_p": 0.1,
        "sampler_priority": ["top_k", "temperature"],
    }
    assert presets.apply(SamplingParams(), "My Preset").sampler_priority == ("top_k", "temperature")
    presets.delete("My Preset")
    assert presets.names() == []


def test_unknown_keys_and_bad_values_are_noted_and_passed_over(presets: Presets, folder: Path) -> None:
    (folder / "odd.yaml").write_text("temperatur: 1\ntop_p: 7\nrep_pen: 1.1\n")
    values, notes = presets.load("odd")
    assert values == {"repetition_penalty": 1.1}
    assert any("Did you mean temperature?" in note for note in notes)
    assert any("top_p" in note for note in notes)


@pytest.mark.parametrize("text", ["- a\n", "a: !!python/object/apply:os.system [id]\n", "a: [\n", "\x00"])
def test_a_file_that_is_no_preset_is_a_sentence(presets: Presets, folder: Path, text: str) -> None:
    (folder / "bad.yaml").write_text(text)
    with pytest.raises(BadFile):
        presets.load("bad")


def test_names_from_outside_stay_in_the_folder(presets: Presets) -> None:
    with pytest.raises(UnknownName):
        presets.load("nowhere")
    for name in ("../evil", "a/b", "", ".hidden"):
        with pytest.raises(InvalidName):
            presets.save(name, SamplingParams())
