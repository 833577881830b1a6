"""Data sets on disk: JSON and JSONL files in training/datasets, as rows. Knows nothing of the rows' meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from errors import BadFile, InvalidInput
from loaders import safe_json
from modules.config.named_files import NamedFiles
from modules.training.data import folder
from modules.training.data.folder import read_text

Row = dict[str, Any]

ENDINGS = (".json", ".jsonl")

#: Keys under which some files keep their rows.
_HOLDERS = ("data", "rows", "train", "examples")


class Datasets(NamedFiles):
    """The folder of data sets."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, ENDINGS, "data set")

    def load(self, name: str) -> list[Row]:
        """The rows of a data set. Raises: UnknownName, InvalidName, BadFile, InvalidInput (no rows)."""
        return read_rows(self.require(name))

    def add(self, file: Path) -> str:
        """Copy a file into the folder; returns its name there, a new one if it is taken.

        Raises: BadFile, InvalidInput, InvalidName, NotWritable.
        """
        read_rows(file)  # unreadable files are not added
        return folder.add_text_file(self.folder, file.stem, ENDINGS, file.suffix.lower(), read_text(file))


def read_rows(file: Path) -> list[Row]:
    """The rows of a file: a JSON list of objects, or one object per line. Raises: BadFile, InvalidInput (no rows)."""
    text = read_text(file)
    lines = file.suffix.lower() == ".jsonl" and text.lstrip()[:1] != "["  # a list with the other extension is read, too
    rows = _lines(file, text) if lines else _list(file, text)
    if not rows:
        raise InvalidInput(f"{file.name} has no rows to train on.")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise BadFile(file, f"row {number} is a {type(row).__name__}, not an object")
    return rows


def _list(file: Path, text: str) -> list[Any]:
    try:
        found = safe_json.loads(text)
    except ValueError as error:
        if text.lstrip()[:1] == "{":  # JSON lines with another extension
            return _lines(file, text)
        raise BadFile(file, f"it is not valid JSON ({error})") from None
    if isinstance(found, dict):  # one row, or {"data": [...]}, as in some files
        found = next((found[key] for key in _HOLDERS if isinstance(found.get(key), list)), [found])
    if not isinstance(found, list):
        raise BadFile(file, "it is not a list of rows")
    return found


def _lines(file: Path, text: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append(safe_json.loads(line))
            except ValueError as error:
                raise BadFile(file, f"line {number} is not valid JSON ({error})") from None
    return rows
