"""The tokenizer of a model in another process: tokens are looked up here, texts are encoded there.

The table of pieces is transferred once, completely. It must not know of requests.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Any

from errors import InvalidToken, UserError, encode_utf8
from loaders.process.model_process import ModelProcess
from loaders.process.wire import PieceTable

_SHORT = 64  # characters: marks and words that are encoded for every prompt
_REMEMBERED = 1024


class RemoteTokenizer:
    """`loaders.base.Tokenizer` over a model's process."""

    def __init__(self, process: ModelProcess, fields: Mapping[str, Any]) -> None:
        """`fields`: those of the contract."""
        self._process = process
        self.n_vocab: int = fields["n_vocab"]
        self.bos_token: str = fields["bos_token"]
        self.eos_token: str = fields["eos_token"]
        self.chat_template: str | None = fields["chat_template"]
        self.end_ids: frozenset[int] = fields["end_ids"]
        self.control: frozenset[str] = fields["control"]
        self.special_ids: frozenset[int] = fields["special_ids"]
        #: Those of control tokens are needed while replies are read, where nobody may wait for the table.
        self._special_pieces: Mapping[int, bytes] = fields["special_pieces"]
        self._pieces: PieceTable | None = None
        self._fetching = threading.Lock()
        self._encoded: dict[tuple[str, bool, bool], list[int]] = {}  # of short texts
        threading.Thread(target=self._fetch, name="fetching pieces", daemon=True).start()

    def encode(self, text: str, *, add_bos: bool = False, special: bool = True) -> list[int]:
        """The ids of a text. `special`: control tokens written out in the text count as those tokens.

        Raises: InvalidInput, ModelClosed, EngineDied.
        """
        encode_utf8(text)  # raises the error with the position
        self._process.check()
        if len(text) > _SHORT:
            return self._encode(text, add_bos, special)
        key = text, add_bos, special
        if (found := self._encoded.get(key)) is None:
            found = self._encode(text, add_bos, special)
            if len(self._encoded) >= _REMEMBERED:
                self._encoded.clear()
            self._encoded[key] = found
        return list(found)

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token; a control token has none unless `special`. Raises: InvalidToken, ModelClosed,
        EngineDied.
        """
        if not 0 <= token < self.n_vocab:
            raise InvalidToken(token, self.n_vocab)
        if special and (found := self._special_pieces.get(token)) is not None:
            return found
        return (self._pieces or self._fetched()).piece(token, special=special)

    def is_special(self, token: int) -> bool:
        """Whether the token is a control token, not text."""
        return token in self.special_ids

    def _encode(self, text: str, add_bos: bool, special: bool) -> list[int]:
        ids: list[int] = self._process.call("tokenizer.encode", text, add_bos, special)
        return ids

    def _fetched(self) -> PieceTable:
        with self._fetching:
            if self._pieces is None:
                self._pieces = self._process.call("pieces")
            return self._pieces

    def _fetch(self) -> None:
        with contextlib.suppress(UserError):  # it has ended: the next call reports it
            self._fetched()
