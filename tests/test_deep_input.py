"""No file or text from outside crashes the program, however deeply nested: every parser reports an error.

The readers run in a process of their own. Where one ends it, its row fails, and another process goes on behind it.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHILD = [sys.executable, "-m", "tests.deep_input"]


def run(skipped: int, *more: str) -> str:
    command = [*CHILD, str(skipped), *more]
    return subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=600).stdout


@cache
def names() -> tuple[str, ...]:
    return tuple(run(0, "--names").splitlines())


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    found: dict[str, str] = {}
    while len(found) < len(names()):
        lines = run(len(found)).splitlines()
        assert lines, "the readers cannot be made at all"
        for line in lines:
            name, _, said = line.partition("\t")
            found[name] = said or "the process ended"
    return found


KINDS = (
    "yaml", "preset", "template file", "character", "settings", "model settings", "json", "chat", "schema", "card",
    "new card", "draft", "format", "rows", "tools of a row", "LoRA parameters", "model folder", "Transformers folder",
    "ExLlamaV2 folder", "journal", "last model", "jinja", "strings", "gguf", "gbnf",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_answers_in_a_sentence(answers: dict[str, str], kind: str) -> None:
    mine = {name: said for name, said in answers.items() if name.startswith(kind)}
    assert mine, "no row is of this kind"
    wrong = {name: said for name, said in mine.items() if not said.startswith(("refused: ", "as it should be"))}
    assert not wrong


def test_every_reader_is_of_a_kind() -> None:
    assert [name for name in names() if not name.startswith(KINDS)] == []
