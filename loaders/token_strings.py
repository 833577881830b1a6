"""The bytes of a token from its string in a vocabulary: byte-level BPE writes each byte as a visible character, and
SentencePiece a space as U+2581 and single bytes as <0x0A>. Knows no tokenizer.
"""

from __future__ import annotations

import re

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"  # SentencePiece's sign for a space


def _alphabet() -> dict[str, bytes]:
    """GPT-2's: printable bytes are themselves, the others follow from U+0100 on, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    codes = [*printable, *range(0x100, 0x100 + len(others))]
    return {chr(code): bytes([byte]) for code, byte in zip(codes, [*printable, *others], strict=True)}


_ALPHABET = _alphabet()


def token_bytes(string: str, *, byte_level: bool) -> bytes:
    """The bytes that a token stands for; `byte_level`: the vocabulary is one of byte-level BPE."""
    if byte_level:
        return b"".join([_ALPHABET.get(character, character.encode()) for character in string])
    if match := _BYTE.fullmatch(string):
        return bytes([int(match[1], 16)])
    return string.replace(_SPACE, " ").encode()


def is_byte_level(space: str) -> bool | None:
    """Whether a vocabulary is one of byte-level BPE, by its string of a space and a letter; None if that is neither."""
    if space.startswith("\u0120"):
        return True
    return False if space.startswith(_SPACE) else None
