"""Data sets on disk: JSON and JSONL files of training/datasets, as rows. Knows nothing of what the rows mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from errors import BadFile, InvalidInput, UnknownName
from loaders import plain_json
from modules.config.paths import safe_child
from modules.training import data_folder
from modules.training.data_folder import read_text

Row = dict[str, Any]

ENDINGS = (".json", ".jsonl")

#: Under what some files keep their rows.
_HOLDERS = ("data", "rows", "train", "examples")


class Rows:
    """The folder of data sets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """All data sets, without their ending."""
        files = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted({file.stem for file in files if file.suffix in ENDINGS and file.is_file()}, key=str.casefold)

    def find(self, name: str) -> Path:
        """The file of a data set. Raises: UnknownName, InvalidName."""
        for ending in ENDINGS:
            if (file := safe_child(self.folder, name, ending)).is_file():
                return file
        raise UnknownName("data set", name, self.names())

    def load(self, name: str) -> list[Row]:
        """The rows of a data set. Raises: UnknownName, InvalidName, BadFile, InvalidInput (no rows)."""
        return read_rows(self.find(name))

    def add(self, file: Path) -> str:
        """Put a copy into the folder; its name there, a new one where it is taken.

        Raises: BadFile, InvalidInput, InvalidName, NotWritable.
        """
        read_rows(file)  # what cannot be read is not taken in
        return data_folder.add(self.folder, file.stem, ENDINGS, file.suffix.lower(), read_text(file))


def read_rows(file: Path) -> list[Row]:
    """The rows of a file: a JSON list of objects, or one object a line. Raises: BadFile, InvalidInput (no rows)."""
    text = read_text(file)
    lines = file.suffix.lower() == ".jsonl" and text.lstrip()[:1] != "["  # a list under the other name is read, too
    rows = _lines(file, text) if lines else _list(file, text)
    if not rows:
        raise InvalidInput(f"{file.name} has no rows: there is nothing to learn from it.")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise BadFile(file, f"row {number} is not an object with keys, but {type(row).__name__}")
    return rows


def _list(file: Path, text: str) -> list[Any]:
    try:
        found = plain_json.loads(text)
    except ValueError as error:
        if text.lstrip()[:1] == "{":  # JSON lines under another name
            return _lines(file, text)
        raise BadFile(file, f"it is not JSON ({error})") from None
    if isinstance(found, dict):  # one row, or {"data": [...]}, as some have it
        found = next((found[key] for key in _HOLDERS if isinstance(found.get(key), list)), [found])
    if not isinstance(found, list):
        raise BadFile(file, "it is not a list of rows")
    return found


def _lines(file: Path, text: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append(plain_json.loads(line))
            except ValueError as error:
                raise BadFile(file, f"line {number} is not JSON ({error})") from None
    return rows
