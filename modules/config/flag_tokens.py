"""Splits CMD_FLAGS.txt and the command line into words, each with its location for error messages.

This module must not know which flags there are.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from errors import BadFile

FILE_NAME = "CMD_FLAGS.txt"

#: A line up to an unquoted # that begins a word.
_BEFORE_COMMENT = re.compile(r"""(?:"[^"]*"|'[^']*'|[^"'#]|(?<=\S)#)*""")


@dataclass(frozen=True)
class FlagToken:
    """One word and its location, as text that fits after a flag's name ("in line 3 of CMD_FLAGS.txt")."""

    text: str
    place: str


def tokens_of_arguments(argv: Sequence[str]) -> list[FlagToken]:
    """The words of the command line."""
    return [FlagToken(text, "on the command line") for text in argv]


def tokens_of_file(path: Path) -> list[FlagToken]:
    """The words of a file of flags: on one line or many, `#` starts a comment, quotes keep spaces together.

    A missing file has no words. Raises: BadFile.
    """
    return tokens_of_text(read_flags_text(path), path.name)


def read_flags_text(path: Path) -> str:
    """The text of a file of flags; empty if it does not exist. Raises: BadFile."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except UnicodeDecodeError:
        raise BadFile(path.name, "it is not UTF-8 text", "Save it as UTF-8, then start again.") from None
    except OSError as error:
        raise BadFile(path.name, error.strerror or "access was denied") from None


def tokens_of_text(text: str, name: str) -> list[FlagToken]:
    """The same for the text of such a file, which errors call `name`. Raises: BadFile."""
    words: list[FlagToken] = []
    for number, line in enumerate(text.splitlines(), start=1):
        place = f"on line {number} of {name}"
        try:
            words += [FlagToken(word, place) for word in _split(line)]
        except ValueError:
            raise BadFile(
                name, f"a quote on line {number} is not closed", "Close it, then start the program again."
            ) from None
    return words


def _split(line: str) -> list[str]:
    before = _BEFORE_COMMENT.match(line)
    if before and line[before.end() : before.end() + 1] == "#":
        line = before.group()
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""  # comments are removed above: shlex would also cut inside a word
    lexer.escape = ""  # a backslash is part of a Windows path
    words = list(lexer)
    return words[:-1] if words[-1:] == ["\\"] else words  # a line continuation, as some people write it
