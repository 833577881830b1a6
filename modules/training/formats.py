"""Formats: how a row of a data set becomes text. Files of training/formats, the original's.

Each is a JSON object from a set of keys, with commas between, to a text in which %key% stands for the row's value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import BadFile, InvalidInput, UnknownName
from loaders import plain_json
from modules.config.paths import safe_child


class RowUnfit(InvalidInput):
    """A row that lacks what it should have; the sentence tells what, not which row it is."""


@dataclass(frozen=True)
class Format:
    """A format: its name, and for each set of keys the text."""

    name: str
    texts: Mapping[frozenset[str], str]

    def text(self, row: Mapping[str, Any]) -> str:
        """The text of a row: by the largest of the format's sets of keys that the row fills. Raises: RowUnfit."""
        filled = {key: _words(value) for key, value in row.items()}
        filled = {key: value for key, value in filled.items() if value.strip()}
        fitting = [keys for keys in self.texts if keys <= filled.keys()]
        if not fitting:
            has = ", ".join(sorted(filled)) or "nothing"
            raise RowUnfit(f"has {has}, and {self.name} needs {self.needs}")
        template = self.texts[max(fitting, key=len)]
        # in one go: a value that holds %output% itself is not looked into
        keys = "|".join(re.escape(key) for key in sorted(filled, key=len, reverse=True))
        return re.sub(f"%({keys})%", lambda found: filled[found[1]], template)

    @property
    def needs(self) -> str:
        """The sets of keys, in words."""
        return " or ".join(", ".join(sorted(keys)) for keys in sorted(self.texts, key=len))


class Formats:
    """The folder of formats."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """All formats, without their ending."""
        files = self._folder.glob("*.json") if self._folder.is_dir() else ()
        return sorted((file.stem for file in files), key=str.casefold)

    def load(self, name: str) -> Format:
        """A format by its name. Raises: UnknownName, InvalidName, BadFile."""
        file = safe_child(self._folder, name, ".json")
        if not file.is_file():
            raise UnknownName("format", name, self.names())
        try:
            found = plain_json.loads(file.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise BadFile(file, str(error)) from None
        if not isinstance(found, dict) or not found or not all(isinstance(text, str) for text in found.values()):
            raise BadFile(file, 'it is not an object such as {"instruction,output": "%instruction%\\n%output%"}')
        return Format(name, {frozenset(part.strip() for part in keys.split(",")): text for keys, text in found.items()})


def _words(value: Any) -> str:
    """A value as text: numbers are as good as words, lists and objects are not."""
    return value if isinstance(value, str) else str(value) if isinstance(value, int | float) else ""
