"""The folder of the user's data sets and texts, training/datasets: files read as text, and new ones taken in.

Knows nothing of what the files mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from errors import BadFile, NotWritable
from modules.config.atomic import write_text
from modules.config.paths import safe_child


def read_text(file: Path) -> str:
    """A text file in UTF-8. Raises: BadFile."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise BadFile(file, "it is not UTF-8 text", "Save it as UTF-8, then try again.") from None
    except OSError as error:
        raise BadFile(file, error.strerror or "the system refuses") from None


def add(folder: Path, name: str, endings: Sequence[str], ending: str, text: str) -> str:
    """Write a text into the folder under the first free name: no file with any of the endings has it. That name.

    The same text under the same name is there already. Raises: InvalidName, NotWritable.
    """
    number, free = 1, name
    while any(safe_child(folder, free, each).exists() for each in endings):
        same = safe_child(folder, free, ending)
        if same.is_file() and same.read_bytes() == text.encode():
            return free
        number += 1
        free = f"{name}-{number}"
    there = safe_child(folder, free, ending)
    try:
        write_text(there, text)
    except OSError as error:
        raise NotWritable(there, error) from None
    return free
