"""A text as the model reads it: its tokens, with what cannot be seen made visible. Tokens in, plain data out.

It must not know how the page shows them; nothing here runs a model.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from loaders.base import Tokenizer

Kind = Literal["text", "space", "mark", "bytes", "special"]

#: What stands for whitespace that has no look of its own. The sign comes first: the character itself may follow it.
_SPACES = {" ": "·", "\n": "⏎", "\t": "→", "\r": "␍"}


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a token: plain text; a space; the name of an invisible character; bytes in hex; a control token."""

    text: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Shown:
    """A token that can be seen. `part_of`: the characters that it shares with its neighbours, "" if it is whole."""

    id: int
    data: bytes
    parts: tuple[Part, ...]
    special: bool = False
    group: int = 0  # tokens that make up characters together have the same
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
    """A whole text. `characters` and `size` (bytes of UTF-8) leave control tokens out."""

    tokens: tuple[Shown, ...]
    characters: int
    size: int

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.tokens]


def shown(tokenizer: Tokenizer, token: int) -> Shown:
    """One token by itself. Raises: InvalidToken, ModelClosed."""
    if tokenizer.is_special(token):
        data = tokenizer.piece(token, special=True)
        return Shown(token, data, (Part(data.decode("utf-8", "replace") or f"[{token}]", "special"),), special=True)
    data = tokenizer.piece(token)
    return Shown(token, data, tuple(parts(data)) or (Part("empty", "mark"),))


def token_view(tokenizer: Tokenizer, ids: Sequence[int]) -> TokenView:
    """The tokens in their order, those that hold pieces of one character tied together. Raises: as `shown`."""
    found: list[Shown] = []
    known: dict[int, Shown] = {}
    waiting: list[Shown] = []  # tokens whose bytes end in the middle of a character
    group = characters = size = 0

    def close() -> None:
        nonlocal characters, group
        text = b"".join(token.data for token in waiting).decode("utf-8", "replace")
        characters += len(text)
        for token in waiting:
            of = text if len(waiting) > 1 else ""
            found.append(Shown(token.id, token.data, token.parts, group=group, part_of=of))
        group += bool(waiting)
        waiting.clear()

    for id in ids:
        token = known.get(id) or known.setdefault(id, shown(tokenizer, id))
        if token.special:
            close()
            found.append(Shown(token.id, token.data, token.parts, special=True, group=group))
            group += 1
            continue
        size += len(token.data)
        waiting.append(token)
        if not _unfinished(b"".join(each.data for each in waiting)):
            close()
    close()
    return TokenView(tuple(found), characters, size)


def parts(data: bytes) -> Iterator[Part]:
    """Bytes of UTF-8, whole or not, as pieces that can be seen."""
    while data:
        try:
            text, rest, bad = data.decode("utf-8"), b"", b""
        except UnicodeDecodeError as error:
            text, bad, rest = data[: error.start].decode("utf-8"), data[error.start : error.end], data[error.end :]
        yield from _characters(text)
        if bad:
            yield Part(bad.hex(" ").upper(), "bytes")
        data = rest


def visible(text: str) -> str:
    """A text on one line, with its spaces and invisible characters as signs."""
    return "".join(part.text for part in _characters(text))


def _characters(text: str) -> Iterator[Part]:
    plain: list[str] = []
    for character in text:
        lone = unicodedata.combining(character) and not plain
        if character.isprintable() and character not in _SPACES and not lone:
            plain.append(character)
            continue
        if plain:
            yield Part("".join(plain), "text")
            plain = []
        if character in _SPACES:
            yield Part(_SPACES[character], "space")
        elif lone:
            yield Part(f"◌{character}", "text")
        else:
            yield Part(f"U+{ord(character):04X}", "mark")
    if plain:
        yield Part("".join(plain), "text")


def _unfinished(data: bytes) -> bool:
    """Whether these bytes end in the middle of a character that more bytes could complete."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False
