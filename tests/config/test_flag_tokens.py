"""CMD_FLAGS.txt as users write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import BadFile
from modules.config.flag_tokens import tokens_of_file


def words(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "CMD_FLAGS.txt"
    path.write_bytes(text.encode("utf-8"))
    return [word.text for word in tokens_of_file(path)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--api --listen\n", ["--api", "--listen"]),
        ("--api\n--listen", ["--api", "--listen"]),
        ("--api \\\n--listen \\\n", ["--api", "--listen"]),
        ("\ufeff--api\r\n\r\n--listen\r\n", ["--api", "--listen"]),
        ("# --share\n--api # a comment that isn't read\n   # another", ["--api"]),
        ("--model 'my model.gguf'", ["--model", "my model.gguf"]),
        ('--model "a #1.gguf" # one', ["--model", "a #1.gguf"]),
        ("--api-key a#b", ["--api-key", "a#b"]),
        (r"--model-dir C:\models\new", ["--model-dir", r"C:\models\new"]),
        (r'--model-dir "D:\my models"', ["--model-dir", r"D:\my models"]),
        ('--character ""', ["--character", ""]),
        ("", []),
    ],
)
def test_lines_become_words(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert words(tmp_path, text) == expected


def test_words_know_their_place(tmp_path: Path) -> None:
    path = tmp_path / "CMD_FLAGS.txt"
    path.write_text("# first\n--api\n")
    assert tokens_of_file(path)[0].place == "on line 2 of CMD_FLAGS.txt"


def test_a_missing_file_has_no_words(tmp_path: Path) -> None:
    assert tokens_of_file(tmp_path / "CMD_FLAGS.txt") == []


def test_an_open_quote_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="quote on line 2"):
        words(tmp_path, '--api\n--model "abc\n')


def test_a_file_that_is_not_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "CMD_FLAGS.txt").write_bytes(b"--character \xe4")
    with pytest.raises(BadFile, match="UTF-8"):
        tokens_of_file(tmp_path / "CMD_FLAGS.txt")
