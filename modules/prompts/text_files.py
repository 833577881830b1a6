"""Texts that the user keeps as plain files in one folder: saved prompts, grammars. One file each, under its own name.

A text comes back exactly as it was saved, line ends included. A file ends with one newline more than its text has, as
editors write it; so a file that was written by hand loads without its last line end.
"""

from __future__ import annotations

from pathlib import Path

from errors import BadFile, InvalidInput, Unavailable, UnknownName
from modules.config.atomic import write_text
from modules.config.paths import safe_child


class TextFiles:
    """The texts of one folder. `kind` is what an error calls one of them."""

    def __init__(self, folder: Path, suffix: str, kind: str) -> None:
        self._folder = folder
        self._suffix = suffix
        self._kind = kind

    def names(self) -> list[str]:
        """All names: those that begin with a digit first, the newest of them on top, then the others by alphabet.

        Names that begin with a digit are mostly dates: `suggested_name` makes such.
        """
        files = self._folder.iterdir() if self._folder.is_dir() else ()
        names = [file.stem for file in files if file.suffix == self._suffix and not file.name.startswith(".")]
        dated = sorted((name for name in names if name[0].isdigit()), reverse=True)
        return dated + sorted((name for name in names if not name[0].isdigit()), key=str.casefold)

    def load(self, name: str) -> str:
        """The text. Raises: UnknownName, InvalidName, BadFile."""
        path = self._existing(name)
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise BadFile(path, "it is not UTF-8 text", "Save it as UTF-8, then try again.") from None
        except OSError as error:
            raise BadFile(path, error.strerror or "the system refuses") from None
        return text.removesuffix("\n").removesuffix("\r") if text.endswith("\r\n") else text.removesuffix("\n")

    def save(self, name: str, text: str) -> None:
        """Write it for good. Raises: InvalidName, InvalidInput, Unavailable."""
        path = safe_child(self._folder, name, self._suffix)
        end = "\r\n" if "\r\n" in text or text.endswith("\r") else "\n"
        try:
            write_text(path, f"{text}{end}")
        except UnicodeEncodeError:
            raise InvalidInput(
                f"The {self._kind} holds half a character (a lone surrogate), which no file can keep. Remove it, then "
                "save again."
            ) from None
        except OSError as error:
            raise Unavailable(f"The {self._kind} cannot be saved to {path} ({error.strerror}).") from None

    def delete(self, name: str) -> None:
        """Remove its file. Raises: UnknownName, InvalidName, Unavailable."""
        path = self._existing(name)
        try:
            path.unlink()
        except OSError as error:
            raise Unavailable(f"{path} cannot be deleted ({error.strerror}).") from None

    def _existing(self, name: str) -> Path:
        path = safe_child(self._folder, name, self._suffix)
        if not path.is_file():
            raise UnknownName(self._kind, name, self.names())
        return path
