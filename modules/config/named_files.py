"""Files that users choose by name in one folder: presets, prompts, templates, characters, data sets.

It finds, lists and deletes them; their owners know the contents.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from errors import BadFile, UnknownName
from modules.config.atomic import delete_file
from modules.config.paths import safe_child


class NamedFiles:
    """The files of one folder by their names without suffix. `kind` is the noun for errors."""

    def __init__(self, folder: Path, suffixes: Sequence[str], kind: str, also: Sequence[Path] = ()) -> None:
        """New files get the first suffix. Of files with the same name, the one with the earlier suffix counts.

        `also`: further folders whose files count after those of the first one; nothing is saved there.
        """
        self.folder = folder
        self._folders = (folder, *also)
        self.suffixes = tuple(suffixes)
        self.kind = kind

    def names(self) -> list[str]:
        """All names, sorted ignoring case."""
        entries = [each for folder in self._folders if folder.is_dir() for each in folder.iterdir()]
        files = (file for file in entries if file.suffix in self.suffixes and not file.name.startswith("."))
        return sorted({file.stem for file in files if file.is_file()}, key=str.casefold)

    def find(self, name: str) -> Path | None:
        """The file of this name, None if there is none. Raises: InvalidName."""
        candidates = (safe_child(folder, name, suffix) for folder in self._folders for suffix in self.suffixes)
        return next((path for path in candidates if path.is_file()), None)

    def require(self, name: str) -> Path:
        """The file of this name. Raises: UnknownName, InvalidName, BadFile (a folder)."""
        path = self.find(name)
        if path is None:
            folder = self.new_path(name)
            if folder.exists():
                raise BadFile(folder, "it is not a file")
            raise UnknownName(self.kind, name, self.names())
        return path

    def new_path(self, name: str) -> Path:
        """The path for a file of this name. Raises: InvalidName."""
        return safe_child(self.folder, name, self.suffixes[0])

    def delete(self, name: str) -> None:
        """Delete a file. Raises: UnknownName, InvalidName, BadFile, Unavailable."""
        delete_file(self.require(name))
