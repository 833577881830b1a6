"""Texts to measure perplexity on: the user's own files, and well-known data sets.

Named data sets come from the folder, else from the hub through the package datasets; if one is not available, the error
says where to put it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from errors import FetchFailed, UnknownName
from modules.config.paths import safe_child
from modules.training.data import folder
from modules.training.data.folder import read_text


@dataclass(frozen=True)
class NamedDataset:
    """A data set of the hub: its repository, subset and column, and the separator between its rows."""

    path: str
    config: str
    split: str
    column: str
    between: str
    revision: str | None = None


#: The hub's own copy of a data set that exists as a script there, which the package datasets no longer runs.
_CONVERTED = "refs/convert/parquet"

#: As the original uses them.
NAMED: Mapping[str, NamedDataset] = {
    "wikitext": NamedDataset("wikitext", "wikitext-2-raw-v1", "test", "text", "\n\n"),
    "ptb": NamedDataset("ptb_text_only", "penn_treebank", "validation", "sentence", "\n\n", _CONVERTED),
    "ptb_new": NamedDataset("ptb_text_only", "penn_treebank", "test", "sentence", " ", _CONVERTED),
}


class PerplexityTexts:
    """The folder of texts, training/datasets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """The known names, then the folder's text files without their extension."""
        found = sorted((file.stem for file in self.folder.glob("*.txt")), key=str.lower) if self.folder.is_dir() else []
        return [*NAMED, *(name for name in found if name not in NAMED)]

    def load(self, name: str) -> str:
        """A text by its name. Raises: UnknownName, InvalidName, BadFile, FetchFailed."""
        file = safe_child(self.folder, name, ".txt")
        if file.is_file():
            return read_text(file)
        if name in NAMED:
            return self._fetch(name)
        raise UnknownName("text", name, self.names())

    def add(self, file: Path) -> str:
        """Copy a text file into the folder; returns its name there. Raises: BadFile, InvalidName, NotWritable."""
        return folder.add_text_file(self.folder, file.stem, (".txt",), ".txt", read_text(file))

    def _fetch(self, name: str) -> str:
        named = NAMED[name]
        todo = f"Save its text as {self.folder / (name + '.txt')}, or check the network connection."
        try:
            import datasets

            rows = datasets.load_dataset(named.path, named.config, split=named.split, revision=named.revision)
            return named.between.join(str(row[named.column]) for row in rows)
        except Exception as error:  # whatever the package raises: network, hub, a missing package
            raise FetchFailed(f"The dataset {name}", _reason(error), todo) from None


def _reason(error: BaseException) -> str:
    if isinstance(error, ConnectionError):
        return "the model hub cannot be reached"
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
