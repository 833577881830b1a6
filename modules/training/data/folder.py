"""The folder of the user's data sets and texts, training/datasets: reading text files and adding new ones.

Knows nothing of what the files mean.
"""

from __future__ import annotations

import re
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
        raise BadFile(file, error.strerror or "access was denied") from None


def add_text_file(folder: Path, name: str, endings: Sequence[str], ending: str, text: str) -> str:
    """Write a text into the folder under the first free name, which no file with any of the extensions has; returns it.

    An identical text under the same name is not added again. Raises: InvalidName, NotWritable.
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


def find_text_files(folder: Path, name: str) -> list[Path]:
    """A text file of the folder, or all files of a subfolder in natural order. Raises: InvalidName, BadFile."""
    inside = safe_child(folder, name)
    if inside.is_dir():
        found = sorted(inside.glob("*.txt"), key=_natural)
        if not found:
            raise BadFile(inside, "it contains no .txt files", "Add text files to it, then try again.")
        return found
    file = inside if inside.suffix == ".txt" else safe_child(folder, name, ".txt")
    if not file.is_file():
        raise BadFile(file, "the file does not exist", "Put it into training/datasets, then try again.")
    return [file]


def list_texts(folder: Path) -> list[str]:
    """The text files and folders of texts that can be used for training."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(
        each.stem if each.is_file() else each.name
        for each in found
        if (each.is_file() and each.suffix == ".txt") or (each.is_dir() and any(each.glob("*.txt")))
    )


def _natural(file: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", file.name.lower())]
