"""The file that remembers the model: a convenience, never a reason to fail."""

from __future__ import annotations

import pytest

from modules.config.paths import Paths
from modules.library.last_model import LastModel, LastModelFile


def test_what_was_loaded_is_remembered(paths: Paths) -> None:
    memory = LastModelFile(paths)
    assert memory.read() == LastModel()
    memory.loading("a")
    assert memory.read() == LastModel("", "", "a")
    memory.loaded("a", "fake")
    memory.loading("b")
    assert memory.read() == LastModel("a", "fake", "b")
    memory.finish_loading()
    assert memory.read() == LastModel("a", "fake")
    memory.forget()
    assert memory.read() == LastModel()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"model": "a"}', '"text"'])
def test_a_broken_file_remembers_nothing(paths: Paths, text: str) -> None:
    (paths.cache / "last_model.json").write_text(text)
    assert LastModelFile(paths).read() == LastModel()


def test_a_file_that_cannot_be_written_is_only_logged(paths: Paths, caplog: pytest.LogCaptureFixture) -> None:
    (paths.cache / "last_model.json").mkdir()
    LastModelFile(paths).loaded("a", "fake")
    assert "Cannot write" in caplog.text
