"""Saved prompts and grammars: loaded exactly as saved, in the original's order and form."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import BadFile, InvalidInput, InvalidName, UnknownName
from modules.prompts.named_texts import NamedTexts


@given(st.text(max_size=40))
@settings(max_examples=60)
def test_a_text_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    files = NamedTexts(tmp_path_factory.mktemp("prompts"), ".txt", "prompt")
    if any("\ud800" <= each <= "\udfff" for each in text):
        with pytest.raises(InvalidInput, match="lone surrogate"):
            files.save("one", text)
        return
    files.save("one", text)
    # a byte order mark at the very beginning is an editor's, and is read over
    assert files.load("one") == text.removeprefix("\ufeff")


def test_a_file_written_by_hand_loses_its_last_line_end_only(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n two \r\n\r\n")
    assert NamedTexts(tmp_path, ".txt", "prompt").load("a") == "one\r\n two \r\n"


def test_dated_names_come_first_newest_on_top(tmp_path: Path) -> None:
    files = NamedTexts(tmp_path, ".txt", "prompt")
    for name in ("b", "A", "2023-05-01-101010", "2024-01-01-101010"):
        files.save(name, "x")
    assert files.names() == ["2024-01-01-101010", "2023-05-01-101010", "A", "b"]


def test_bad_names_and_files(tmp_path: Path) -> None:
    files = NamedTexts(tmp_path, ".txt", "prompt")
    with pytest.raises(InvalidName):
        files.save("../a", "x")
    with pytest.raises(UnknownName):
        files.load("none")
    with pytest.raises(UnknownName):
        files.delete("none")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(BadFile):
        files.load("bytes")
    files.save("gone", "x")
    files.delete("gone")
    assert files.names() == ["bytes"]
