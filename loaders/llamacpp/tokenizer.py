"""Tokenizes with the vocabulary of a GGUF. Knows nothing of contexts or sampling.

Its methods may be called from any thread, also while the model is being unloaded: `close` waits for running calls, and
later ones are refused. Calls do not wait for each other, because a long text takes long.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from errors import InvalidToken, ModelClosed, encode_utf8
from loaders.llamacpp.library import C
from loaders.llamacpp.long_words import split_long_words
from loaders.llamacpp.native import LlamaWeights


class LlamaTokenizer:
    """The tokenizer that is built into a GGUF file."""

    def __init__(self, weights: LlamaWeights, chat_template: str | None) -> None:
        self._vocab = weights.vocab
        self._changed = threading.Condition()  # guards the two
        self._looking = 0
        self._closed = False
        self._pieces: tuple[dict[int, bytes], dict[int, bytes]] = ({}, {})  # without and with control tokens' texts
        self._by_words = C.llama_vocab_type(self._vocab) == C.LLAMA_VOCAB_TYPE_BPE
        self.n_vocab = weights.n_vocab
        self.chat_template = chat_template
        self.bos_id: int = C.llama_vocab_bos(self._vocab)
        self.eos_id: int = C.llama_vocab_eos(self._vocab)
        self.bos_token = self._text(self.bos_id)
        self.eos_token = self._text(self.eos_id)
        self.adds_bos: bool = C.llama_vocab_get_add_bos(self._vocab)
        self.special_ids = frozenset(i for i in range(self.n_vocab) if C.llama_vocab_is_control(self._vocab, i))
        self.control = frozenset(map(self._text, self.special_ids))
        self.end_ids = frozenset(i for i in range(self.n_vocab) if C.llama_vocab_is_eog(self._vocab, i))

    def close(self) -> None:
        """The vocabulary is about to be freed: wait for running calls, and refuse later ones with ModelClosed."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._looking)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """While inside, the vocabulary stays in memory. Raises: ModelClosed."""
        with self._changed:
            if self._closed:
                raise ModelClosed
            self._looking += 1
        try:
            yield
        finally:
            with self._changed:
                self._looking -= 1
                if self._closed:
                    self._changed.notify_all()

    def encode(self, text: str, *, add_bos: bool = False, special: bool = True) -> list[int]:
        """The ids of a text. `add_bos` puts the start token first if this model uses one.

        `special`: control tokens written out in the text become those tokens. Raises: InvalidInput.
        """
        encode_utf8(text)  # raises the error with the position
        first, *more = split_long_words(text) if self._by_words else (text,)
        if not more:
            return self._ids(text, add_bos, special)
        ids = self._ids(first, False, special)
        begin, end = self._around(first, ids, special) if add_bos else ([], [])
        for part in more:
            ids += self._ids(part, False, special)
        return [*begin, *ids, *end]

    def _around(self, text: str, ids: list[int], special: bool) -> tuple[list[int], list[int]]:
        """The ids that this vocabulary adds before and after a text's ids."""
        dressed = self._ids(text, True, special)
        more = len(dressed) - len(ids)
        place = next((at for at in range(more, -1, -1) if dressed[at : at + len(ids)] == ids), more)
        return dressed[:place], dressed[place + len(ids) :]

    def _ids(self, text: str, add_special: bool, special: bool) -> list[int]:
        data = text.encode()
        with self.looking():
            # no token is shorter than a byte except the few special ones at the ends
            ids = (C.llama_token * (len(data) + 8))()
            count = C.llama_tokenize(self._vocab, data, len(data), ids, len(ids), add_special, special)
            if count < 0:
                ids = (C.llama_token * -count)()
                count = C.llama_tokenize(self._vocab, data, len(data), ids, len(ids), add_special, special)
        return list(ids[:count])

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token; a control token has none unless `special`. Raises: InvalidToken."""
        known = self._pieces[special].get(token)  # asked for every generated token, on the engine's thread
        if known is not None and not self._closed:
            return known
        if not 0 <= token < self.n_vocab:
            raise InvalidToken(token, self.n_vocab)
        with self.looking():
            buffer = ctypes.create_string_buffer(64)
            count = C.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
            if count < 0:
                buffer = ctypes.create_string_buffer(-count)
                count = C.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        piece = self._pieces[special][token] = buffer.raw[:count]
        return piece

    def is_special(self, token: int) -> bool:
        """Whether the token is a control token, not text."""
        return token in self.special_ids

    def _text(self, token: int) -> str:
        if not 0 <= token < self.n_vocab:
            return ""
        return str(C.llama_vocab_get_text(self._vocab, token).decode("utf-8", "replace"))
