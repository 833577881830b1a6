"""Texts to measure perplexity on: the user's own files, and data sets that are known by name.

Named sets come from the folder, else from the hub by the package datasets; what cannot be had says where to put it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from errors import FetchFailed, UnknownName
from modules.config.paths import safe_child
from modules.training import data_folder
from modules.training.data_folder import read_text


@dataclass(frozen=True)
class Named:
    """A data set of the hub: where it is, which part, which column, and what stands between its rows."""

    path: str
    config: str
    split: str
    column: str
    between: str
    revision: str | None = None


#: The hub's own copy of a data set that is kept as a script there, which the package datasets runs no more.
_CONVERTED = "refs/convert/parquet"

#: As the original takes them.
NAMED: Mapping[str, Named] = {
    "wikitext": Named("wikitext", "wikitext-2-raw-v1", "test", "text", "\n\n"),
    "ptb": Named("ptb_text_only", "penn_treebank", "validation", "sentence", "\n\n", _CONVERTED),
    "ptb_new": Named("ptb_text_only", "penn_treebank", "test", "sentence", " ", _CONVERTED),
}


class Texts:
    """The folder of texts, training/datasets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """The known names, then the text files of the folder without their ending."""
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
        """Put a copy of a text file into the folder; its name there. Raises: BadFile, InvalidName, NotWritable."""
        return data_folder.add(self.folder, file.stem, (".txt",), ".txt", read_text(file))

    def _fetch(self, name: str) -> str:
        named = NAMED[name]
        todo = f"Put its text into {self.folder / (name + '.txt')}, or check the network connection."
        try:
            import datasets

            rows = datasets.load_dataset(named.path, named.config, split=named.split, revision=named.revision)
            return named.between.join(str(row[named.column]) for row in rows)
        except Exception as error:  # whatever the package raises: the network, the hub, a missing package
            why = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
            raise FetchFailed(f"the data set {name}", why, todo) from None
