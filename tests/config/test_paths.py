"""Folders, and names from outside that must not escape from them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import InvalidInput, InvalidName
from modules.config.paths import Paths, safe_child


def test_folders_lie_under_the_root(tmp_path: Path) -> None:
    paths = Paths.under(tmp_path)
    paths.ensure()
    assert paths.models == tmp_path / "models"
    assert paths.instruction_templates == tmp_path / "instruction-templates"
    assert paths.models.is_dir()
    assert paths.cache.is_dir()


def test_models_may_lie_elsewhere(tmp_path: Path) -> None:
    assert Paths.under(tmp_path, model_dir="big/models").models == tmp_path / "big" / "models"
    assert Paths.under(tmp_path, lora_dir=tmp_path / "l").loras == tmp_path / "l"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file stands in the way")
    with pytest.raises(InvalidInput, match=r"models could not be created \(.*Choose a folder"):
        Paths.under(tmp_path).ensure()


@pytest.mark.parametrize("name", ["Assistant", "Big O", "phi-2 (1+1)", "Ärger", "20240115-13-45-59", "a.b", "console"])
def test_plain_names_are_files(tmp_path: Path, name: str) -> None:
    assert safe_child(tmp_path, name, ".yaml") == tmp_path / f"{name}.yaml"


@pytest.mark.parametrize(
    "name",
    ["", " ", ".", "..", "../x", "a/b", "a\\b", "/etc/passwd", "C:\\x", "a\0b", "a\nb", ".hidden", "CON", "nul.txt"]
    + ["com1", "x" * 300, "é" * 200, "\ud800"],
)
def test_other_names_are_refused_with_a_reason(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidName, match=r"cannot be used as a name: .+\. Choose another"):
        safe_child(tmp_path, name, ".yaml")


@given(st.text())
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    folder = Path("/work/characters")
    try:
        child = safe_child(folder, name, ".json")
    except InvalidName:
        return
    assert child.parent == folder
    assert child.name == name + ".json"
