"""The messages between the program and its grammar processes, as bytes: kind, session, length, payload."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO

_HEAD = struct.Struct("<BII")
_TOKEN = struct.Struct("<BI")


class RequestKind(IntEnum):
    """Requests. Tokens are four bytes each, little-endian."""

    VOCABULARY = 0
    OPEN = 1  # a grammar's text
    TRY = 2  # a token: accept it if the grammar allows it, else return the mask
    MASK = 3
    ALLOWS = 4  # a token
    ACCEPT = 5  # tokens
    CLOSE = 6
    REWIND = 7  # the number of tokens to take back, as a token


class ResponseKind(IntEnum):
    """Responses. The mask has one bit per token of the vocabulary."""

    YES = 0
    NO = 1  # with the mask, if requested
    INVALID = 2  # with a sentence
    TOO_COMPLEX = 3


def write_message(target: BinaryIO, kind: int, session: int, payload: bytes) -> None:
    target.write(_HEAD.pack(kind, session, len(payload)) + payload)
    target.flush()


def read_message(source: BinaryIO) -> tuple[int, int, bytes] | None:
    """The next message; None if there is no complete one."""
    head = source.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    kind, session, length = _HEAD.unpack(head)
    payload = source.read(length)
    return (kind, session, payload) if len(payload) == length else None


@dataclass(frozen=True)
class GrammarVocabulary:
    """Each token's text as bytes (of a control token its name), which are control tokens, which end a reply."""

    texts: tuple[bytes, ...]
    control: frozenset[int]
    ends: frozenset[int]

    def packed(self) -> bytes:
        return b"".join(
            [
                _TOKEN.pack((token in self.control) + 2 * (token in self.ends), len(text)) + text
                for token, text in enumerate(self.texts)
            ]
        )

    @classmethod
    def unpacked(cls, data: bytes) -> GrammarVocabulary:
        texts: list[bytes] = []
        control: list[int] = []
        ends: list[int] = []
        at = 0
        while at < len(data):
            flags, length = _TOKEN.unpack_from(data, at)
            at += _TOKEN.size + length
            control += [len(texts)] if flags & 1 else []
            ends += [len(texts)] if flags & 2 else []
            texts.append(data[at - length : at])
        return cls(tuple(texts), frozenset(control), frozenset(ends))
