"""Flags as words: CMD_FLAGS.txt and the command line cut into words, each with the place that it stands in.

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

#: All of a line up to an unquoted # that begins a word.
_BEFORE_COMMENT = re.compile(r"""(?:"[^"]*"|'[^']*'|[^"'#]|(?<=\S)#)*""")


@dataclass(frozen=True)
class Word:
    """One word, and where it stands, in words that fit behind a flag's name ("in line 3 of CMD_FLAGS.txt")."""

    text: str
    place: str


def words_of_arguments(argv: Sequence[str]) -> list[Word]:
    """The words of the command line."""
    return [Word(text, "on the command line") for text in argv]


def words_of_file(path: Path) -> list[Word]:
    """The words of a file of flags: on one line or many, `#` starts a comment, quotes hold spaces together.

    A missing file has no words. Raises: BadFile.
    """
    return words_of_text(text_of(path), path.name)


def text_of(path: Path) -> str:
    """A file of flags as it stands; nothing where there is none. Raises: BadFile."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except UnicodeDecodeError:
        raise BadFile(path.name, "it is not UTF-8 text", "Save it as UTF-8, then start again.") from None
    except OSError as error:
        raise BadFile(path.name, error.strerror or "the system refuses") from None


def words_of_text(text: str, name: str) -> list[Word]:
    """The same for the text of such a file, which errors call `name`. Raises: BadFile."""
    words: list[Word] = []
    for number, line in enumerate(text.splitlines(), start=1):
        place = f"in line {number} of {name}"
        try:
            words += [Word(word, place) for word in _split(line)]
        except ValueError:
            raise BadFile(name, f"a quote in line {number} is not closed", "Close it, then start again.") from None
    return words


def _split(line: str) -> list[str]:
    before = _BEFORE_COMMENT.match(line)
    if before and line[before.end() : before.end() + 1] == "#":
        line = before.group()
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""  # cut above: shlex would also cut inside a word
    lexer.escape = ""  # a backslash is part of a Windows path
    words = list(lexer)
    return words[:-1] if words[-1:] == ["\\"] else words  # "goes on below", as some people write it
