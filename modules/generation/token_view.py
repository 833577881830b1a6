"""A text as the model reads it: its tokens, with invisible characters made visible. Tokens in, plain data out.

It must not know how the page shows them; nothing here runs a model.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from loaders.base import Tokenizer

Kind = Literal["text", "space", "mark", "bytes", "special"]

#: Signs for invisible whitespace. The sign comes first: the character itself may follow it.
_SPACES = {" ": "·", "\n": "⏎", "\t": "→", "\r": "␍"}


@dataclass(frozen=True, slots=True)
class TokenPart:
    """A piece of a token: plain text, a space, the name of an invisible character, bytes in hex, or a control token."""

    text: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class VisibleToken:
    """A token in visible form. `part_of`: the characters that it shares with its neighbours, "" if it is whole."""

    id: int
    data: bytes
    parts: tuple[TokenPart, ...]
    special: bool = False
    group: int = 0  # tokens that form characters together have the same number
    part_of: str = ""

    @property
    def text(self) -> str:
        """All its parts in one line."""
        return "".join(part.text for part in self.parts)

    @property
    def newline(self) -> bool:
        return self.data.endswith(b"\n") and not self.special


@dataclass(frozen=True, slots=True)
class TokenView:
    """A whole text. `characters` and `size` (bytes of UTF-8) do not include control tokens."""

    tokens: tuple[VisibleToken, ...]
    characters: int
    size: int

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.tokens]


def show_token(tokenizer: Tokenizer, token: int) -> VisibleToken:
    """One token by itself. Raises: InvalidToken, ModelClosed."""
    if tokenizer.is_special(token):
        data = tokenizer.piece(token, special=True)
        return VisibleToken(
            token, data, (TokenPart(data.decode("utf-8", "replace") or f"[{token}]", "special"),), special=True
        )
    data = tokenizer.piece(token)
    return VisibleToken(token, data, tuple(split_bytes(data)) or (TokenPart("empty", "mark"),))


def view_tokens(tokenizer: Tokenizer, ids: Sequence[int]) -> TokenView:
    """The tokens in order; those that contain pieces of one character are grouped. Raises: as `show_token`."""
    found: list[VisibleToken] = []
    known: dict[int, VisibleToken] = {}
    waiting: list[VisibleToken] = []  # tokens whose bytes end in the middle of a character
    group = characters = size = 0

    def close() -> None:
        nonlocal characters, group
        text = b"".join(token.data for token in waiting).decode("utf-8", "replace")
        characters += len(text)
        for token in waiting:
            of = text if len(waiting) > 1 else ""
            found.append(VisibleToken(token.id, token.data, token.parts, group=group, part_of=of))
        group += bool(waiting)
        waiting.clear()

    for id in ids:
        token = known.get(id) or known.setdefault(id, show_token(tokenizer, id))
        if token.special:
            close()
            found.append(VisibleToken(token.id, token.data, token.parts, special=True, group=group))
            group += 1
            continue
        size += len(token.data)
        waiting.append(token)
        if not _unfinished(b"".join(each.data for each in waiting)):
            close()
    close()
    return TokenView(tuple(found), characters, size)


def split_bytes(data: bytes) -> Iterator[TokenPart]:
    """Bytes of UTF-8, complete or not, as visible pieces."""
    while data:
        try:
            text, rest, bad = data.decode("utf-8"), b"", b""
        except UnicodeDecodeError as error:
            text, bad, rest = data[: error.start].decode("utf-8"), data[error.start : error.end], data[error.end :]
        yield from _characters(text)
        if bad:
            yield TokenPart(bad.hex(" ").upper(), "bytes")
        data = rest


def mark_invisible(text: str) -> str:
    """A text on one line, with its spaces and invisible characters as signs."""
    return "".join(part.text for part in _characters(text))


def _characters(text: str) -> Iterator[TokenPart]:
    plain: list[str] = []
    for character in text:
        lone = unicodedata.combining(character) and not plain
        if character.isprintable() and character not in _SPACES and not lone:
            plain.append(character)
            continue
        if plain:
            yield TokenPart("".join(plain), "text")
            plain = []
        if character in _SPACES:
            yield TokenPart(_SPACES[character], "space")
        elif lone:
            yield TokenPart(f"◌{character}", "text")
        else:
            yield TokenPart(f"U+{ord(character):04X}", "mark")
    if plain:
        yield TokenPart("".join(plain), "text")


def _unfinished(data: bytes) -> bool:
    """Whether these bytes end in the middle of a character that more bytes could complete."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False
