"""Files that users choose by name: the same rules for presets, prompts, templates, characters, formats, datasets."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import BadFile, InvalidName, UnknownName
from modules.config.named_files import NamedFiles


@pytest.fixture
def files(tmp_path: Path) -> NamedFiles:
    for name in ("b.yaml", "A.yml", "A.yaml", ".hidden.yaml", "other.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "folder.yaml").mkdir()
    return NamedFiles(tmp_path, (".yaml", ".yml"), "preset")


def test_names_are_those_of_files_with_a_suffix(files: NamedFiles) -> None:
    assert files.names() == ["A", "b"]
    assert NamedFiles(files.folder / "missing", (".yaml",), "preset").names() == []


def test_the_earlier_suffix_counts_and_is_that_of_new_files(files: NamedFiles) -> None:
    assert files.require("A").name == "A.yaml"
    assert files.new_path("new").name == "new.yaml"
    files.delete("A")
    assert files.require("A").name == "A.yml"


@pytest.mark.parametrize(("name", "error"), [("c", UnknownName), ("folder", BadFile), ("../b", InvalidName)])
def test_what_is_no_such_file_is_said(files: NamedFiles, name: str, error: type[Exception]) -> None:
    for action in (files.require, files.delete):
        with pytest.raises(error):
            action(name)
