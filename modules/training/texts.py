"""Texts to measure perplexity on: the user's own files, and data sets that are known by name.

Named sets come from the folder, else from the hub by the package datasets; what cannot be had says where to put it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from errors import BadFile, FetchFailed, NotWritable, UnknownName
from modules.config.atomic import write_text
from modules.config.paths import safe_child


@dataclass(frozen=True)
class Named:
    """A data set of the hub: where it is, which part, which column, and what stands between its rows."""

    path: str
    config: str
    split: str
    column: str
    between: str


#: As the original takes them.
NAMED: Mapping[str, Named] = {
    "wikitext": Named("wikitext", "wikitext-2-raw-v1", "test", "text", "\n\n"),
    "ptb": Named("ptb_text_only", "penn_treebank", "validation", "sentence", "\n\n"),
    "ptb_new": Named("ptb_text_only", "penn_treebank", "test", "sentence", " "),
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
        text = read_text(file)
        there = safe_child(self.folder, file.stem, ".txt")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(there, text)
        except OSError as error:
            raise NotWritable(there, error) from None
        return there.stem

    def _fetch(self, name: str) -> str:
        named = NAMED[name]
        todo = f"Put its text into {self.folder / (name + '.txt')}, or check the network connection."
        try:
            import datasets

            rows = datasets.load_dataset(named.path, named.config, split=named.split)
            return named.between.join(str(row[named.column]) for row in rows)
        except Exception as error:  # whatever the package raises: the network, the hub, a missing package
            why = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
            raise FetchFailed(f"the data set {name}", why, todo) from None


def read_text(file: Path) -> str:
    """A text file in UTF-8. Raises: BadFile."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise BadFile(file, "it is not UTF-8 text", "Save it as UTF-8, then try again.") from None
    except OSError as error:
        raise BadFile(file, error.strerror or "the system refuses") from None
