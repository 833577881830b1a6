"""Formats that convert a row of a data set to text: files in training/formats, in the original's form.

Each is a JSON object from sets of keys, separated by commas, to a text in which %key% stands for the row's value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import BadFile, InvalidInput
from loaders import safe_json
from modules.config.named_files import NamedFiles


class RowUnfit(InvalidInput):
    """A row that lacks something; the sentence says what, but not which row it is."""


@dataclass(frozen=True)
class RowFormat:
    """A format: its name, and the text for each set of keys."""

    name: str
    texts: Mapping[frozenset[str], str]

    def text(self, row: Mapping[str, Any]) -> str:
        """The text of a row: by the largest of the format's sets of keys that the row has. Raises: RowUnfit."""
        filled = {key: _words(value) for key, value in row.items()}
        filled = {key: value for key, value in filled.items() if value.strip()}
        fitting = [keys for keys in self.texts if keys <= filled.keys()]
        if not fitting:
            has = ", ".join(sorted(filled)) or "nothing"
            raise RowUnfit(f"has {has}, but {self.name} requires {self.needs}")
        template = self.texts[max(fitting, key=len)]
        # in one pass: a value that contains %output% itself is not replaced
        keys = "|".join(re.escape(key) for key in sorted(filled, key=len, reverse=True))
        return re.sub(f"%({keys})%", lambda found: filled[found[1]], template)

    @property
    def needs(self) -> str:
        """The sets of keys, in words."""
        return " or ".join(", ".join(sorted(keys)) for keys in sorted(self.texts, key=len))


class RowFormats(NamedFiles):
    """The folder of formats."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, (".json",), "format")

    def load(self, name: str) -> RowFormat:
        """A format by its name. Raises: UnknownName, InvalidName, BadFile."""
        file = self.require(name)
        try:
            found = safe_json.loads(file.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise BadFile(file, str(error)) from None
        if not isinstance(found, dict) or not found or not all(isinstance(text, str) for text in found.values()):
            raise BadFile(file, 'it must be an object such as {"instruction,output": "%instruction%\\n%output%"}')
        return RowFormat(
            name, {frozenset(part.strip() for part in keys.split(",")): text for keys, text in found.items()}
        )


def _words(value: Any) -> str:
    """A value as text: strings and numbers are accepted, lists and objects are not."""
    return value if isinstance(value, str) else str(value) if isinstance(value, int | float) else ""
