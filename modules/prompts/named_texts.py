"""Texts that the user saves as plain files in one folder, by name: saved prompts, grammars.

A text is loaded exactly as it was saved, including line ends. A file ends with one newline more than its text, as
editors write it; so a file written by hand is loaded without its last line end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from errors import BadFile, InvalidInput, Unavailable
from modules.config.atomic import write_text
from modules.config.named_files import NamedFiles


class NamedTexts(NamedFiles):
    """The texts of one folder, all with one suffix."""

    def __init__(self, folder: Path, suffix: str, kind: str, also: Sequence[Path] = ()) -> None:
        super().__init__(folder, (suffix,), kind, also)

    def names(self) -> list[str]:
        """All names: those that begin with a digit first, newest first, then the others in alphabetical order.

        Names that begin with a digit are usually dates, as `suggested_name` creates them.
        """
        names = super().names()
        dated = sorted((name for name in names if name[0].isdigit()), reverse=True)
        return dated + [name for name in names if not name[0].isdigit()]

    def load(self, name: str) -> str:
        """Load a text. Raises: UnknownName, InvalidName, BadFile."""
        path = self.require(name)
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise BadFile(path, "it is not UTF-8 text", "Save it as UTF-8, then try again.") from None
        except OSError as error:
            raise BadFile(path, error.strerror or "access was denied") from None
        return text.removesuffix("\n").removesuffix("\r") if text.endswith("\r\n") else text.removesuffix("\n")

    def save(self, name: str, text: str) -> None:
        """Save a text. Raises: InvalidName, InvalidInput, Unavailable."""
        path = self.new_path(name)
        end = "\r\n" if "\r\n" in text or text.endswith("\r") else "\n"
        try:
            write_text(path, f"{text}{end}")
        except UnicodeEncodeError:
            raise InvalidInput(
                f"The {self.kind} contains an invalid character (lone surrogate), which cannot be saved. Remove "
                "it, then save again."
            ) from None
        except OSError as error:
            raise Unavailable(f"The {self.kind} could not be saved to {path} ({error.strerror}).") from None
