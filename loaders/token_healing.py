"""Token healing: a prompt that ends inside a word loses its last tokens, and the reply begins with their text.

Otherwise the model could only continue with tokens that begin in the middle of the word, which it has hardly ever seen
after these. Token ids and bytes only: it must not know how tokens are computed.
"""

from __future__ import annotations

import weakref
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from loaders.base import Token, Tokenizer

_MOST = 4  # how many tokens may be chosen again

_indexes: weakref.WeakKeyDictionary[Tokenizer, VocabularyIndex] = weakref.WeakKeyDictionary()


class VocabularyIndex:
    """The tokens of a vocabulary by their bytes, without control tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        pairs = sorted(
            (data, token)
            for token in range(tokenizer.n_vocab)
            if not tokenizer.is_special(token) and (data := tokenizer.piece(token))
        )
        self._texts = [data for data, _ in pairs]
        self._ids = np.array([token for _, token in pairs], np.int64)
        self._n_vocab = tokenizer.n_vocab

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> VocabularyIndex:
        """That of a tokenizer, made once: it takes some tenths of a second."""
        found = _indexes.get(tokenizer)
        if found is None:
            found = _indexes[tokenizer] = cls(tokenizer)
        return found

    def consistent(self, text: bytes) -> npt.NDArray[np.bool_]:
        """Whether a token may come first in a text that begins with these bytes, shape (n_vocab,)."""
        mask = np.zeros(self._n_vocab, bool)
        for size in range(1, len(text) + 1):
            part = text[:size]
            at = bisect_left(self._texts, part)
            while at < len(self._texts) and self._texts[at] == part:
                mask[self._ids[at]] = True
                at += 1
        # no token has this many bytes of 255 after these
        start, end = bisect_left(self._texts, text), bisect_left(self._texts, text + b"\xff" * 64)
        mask[self._ids[start:end]] = True
        return mask


def split_prompt(ids: Sequence[int], tokenizer: Tokenizer) -> tuple[list[int], bytes]:
    """The prompt without the tokens of a word at its end, and their bytes; unchanged and b"" if there is none.

    At least one token is left.
    """
    kept, text = list(ids), b""
    while len(kept) > 1 and len(ids) - len(kept) < _MOST and not tokenizer.is_special(kept[-1]):
        data = tokenizer.piece(kept[-1])
        if not data[-1:].isalnum() and not data[-1:] > b"\x7f":
            break
        text = data + text
        kept.pop()
        if not data[:1].isalnum() and not data[:1] > b"\x7f":  # the word begins in this token
            break
    return kept, text


class BegunText:
    """The text that a reply must begin with, and how much of it is left."""

    def __init__(self, text: bytes, tokenizer: Tokenizer) -> None:
        self._index = VocabularyIndex.of(tokenizer)
        self._tokenizer = tokenizer
        self.left = text
        self._before: list[bytes] = []  # what was left before each of the first tokens
        self._count = 0

    def allowed(self) -> npt.NDArray[np.bool_]:
        """The possible next tokens, shape (n_vocab,)."""
        return self._index.consistent(self.left)

    def accept(self, token: int) -> None:
        """The next token."""
        if self.left:
            self._before.append(self.left)
            self.left = self.left[len(self._tokenizer.piece(token)) :]
        self._count += 1

    def rewind(self, count: int) -> None:
        """Take back the last tokens."""
        self._count -= count
        if self._count < len(self._before):
            self.left = self._before[self._count]
            del self._before[self._count :]

    def strip(self, token: Token) -> Token:
        """The last token, without the part of it that the prompt's reader has already."""
        if self._count > len(self._before):
            return token
        return replace(token, data=token.data[len(self._before[self._count - 1]) :])
