"""The table in docs/loaders.md has a row for every member of the zoo, and no differences from a cold start."""

from __future__ import annotations

from tests.zoo.folders import FOLDERS
from tests.zoo.table import DEEDS, written
from tests.zoo.test_gguf import ARCHITECTURES
from tests.zoo.walk import NAMES


def test_every_step_is_in_one_column() -> None:
    assert sorted(step for steps in DEEDS.values() for step in steps) == sorted(NAMES)


def test_the_document_has_all_rows_and_all_are_equal() -> None:
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in written().splitlines()[2:]]
    expected = [(name, loader) for name in ARCHITECTURES for loader in ("llama.cpp", "llamacpp_HF")]
    expected += [(name, "Transformers") for name in FOLDERS]
    assert [(row[0], row[1]) for row in rows] == expected
    for row in rows:
        for cell in row[2:]:
            right, _, done = cell.partition(" of ")
            assert right == done, row
