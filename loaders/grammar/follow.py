"""Grammars of one model: a request's grammar, followed beside the decoding, token by token.

All computation is in processes of their own (process.py): what is asked here is answered later, and whoever asks may
go on meanwhile. It sees token ids; it must not know of engines.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future, wait

import numpy as np
import numpy.typing as npt

from errors import InvalidGrammar, ModelClosed
from loaders.base import Tokenizer
from loaders.grammar.messages import Ask, Vocabulary
from loaders.grammar.process import GrammarProcess, Session
from loaders.params import SamplingParams

Mask = npt.NDArray[np.bool_]

#: Grammar processes of a model, at most: while one works on a grammar that is slow, others are followed by the next.
MOST_PROCESSES = min(4, max(2, os.cpu_count() or 1))
_MOST_TEXT = 2_000_000  # bytes of a text that is worth being sent; the process has the finer bounds


class Grammars:
    """Follows grammars over one vocabulary. May be asked from several threads."""

    def __init__(self, tokenizer: Tokenizer, end_ids: Iterable[int]) -> None:
        self._tokenizer = tokenizer
        self._ends = frozenset(end_ids)
        self._guard = threading.Lock()
        self._processes: list[GrammarProcess] = []
        self._numbers = itertools.count(1)
        self._closed = False
        self._packing = threading.Lock()
        self._packed = b""

    def of(self, params: SamplingParams) -> Following | None:
        """The request's grammar, if it has one; whether it can be used is known later. Raises: ModelClosed."""
        return self.follow(params.grammar_string) if params.grammar_string.strip() else None

    def follow(self, text: str) -> Following:
        """Raises: ModelClosed, InvalidGrammar."""
        data = text.encode("utf-8", "replace")
        if len(data) > _MOST_TEXT:
            raise InvalidGrammar(f"it has {len(text):,} characters, more than any grammar may have.")
        with self._guard:
            if self._closed:
                raise ModelClosed
            process = min(self._processes, key=lambda each: each.load, default=None)
            if process is None or (process.load[0] and len(self._processes) < MOST_PROCESSES):
                process = GrammarProcess(self._vocabulary, len(self._processes) + 1)
                self._processes.append(process)
            return Following(process, Session(next(self._numbers), data), self._tokenizer.n_vocab)

    def start(self, text: str) -> Mask:
        """For every token whether a text of this grammar may begin with it. Raises: UserError."""
        following = self.follow(text)
        try:
            return following.allowed()
        finally:
            following.close()

    def close(self) -> None:
        """End all processes at once. Whoever waits for an answer gets ModelClosed."""
        with self._guard:
            self._closed = True
        for process in self._processes:
            process.close()

    def _vocabulary(self) -> bytes:
        """Raises: ModelClosed."""
        with self._packing:
            if not self._packed:
                tokens = range(self._tokenizer.n_vocab)
                texts = [self._tokenizer.piece(token) for token in tokens]
                control = frozenset(token for token in tokens if self._tokenizer.is_special(token))
                for token in control:
                    texts[token] = self._tokenizer.piece(token, special=True)
                self._packed = Vocabulary(tuple(texts), control, self._ends).packed()
            return self._packed


class Following:
    """One request's grammar and how far its reply has come in it. Not to be used by two threads at once."""

    def __init__(self, process: GrammarProcess, session: Session, n_vocab: int) -> None:
        self._process = process
        self._session = session
        self._n_vocab = n_vocab
        self._opened = process.ask(session, Ask.OPEN)

    @property
    def problem(self) -> BaseException | None:
        """Why it cannot be used, as soon as that is known."""
        return self._opened.exception() if self._opened.done() else None

    def ready(self, seconds: float = 0) -> bool:
        """Whether it has been read, or `problem` says why not; after waiting so long for that at most."""
        wait([self._opened], seconds)
        return self._opened.done()

    def attempt(self, token: int) -> Future[bytes | None]:
        """Go on with this token if the grammar allows it (None); else what it allows, for `mask_of`."""
        return self._process.ask(self._session, Ask.TRY, [token])

    def mask_of(self, answer: bytes) -> Mask:
        return np.unpackbits(np.frombuffer(answer, np.uint8), bitorder="little")[: self._n_vocab].astype(bool)

    def accept(self, token: int) -> Future[bytes | None]:
        """Go on with this token, which it allows; nobody needs to wait."""
        return self._process.ask(self._session, Ask.ACCEPT, [token])

    def allows(self, token: int) -> bool:
        """Whether the reply may go on with this token. Waits. Raises: UserError."""
        return self._process.ask(self._session, Ask.ALLOWS, [token]).result() is None

    def allowed(self) -> Mask:
        """For every token whether the reply may go on with it, shape (n_vocab,). Waits. Raises: UserError."""
        return self.mask_of(self._process.ask(self._session, Ask.MASK).result() or b"")

    def close(self) -> None:
        """Nothing more is asked. Calling it again does nothing."""
        if not self._session.closed:
            self._session.closed = True
            self._process.ask(self._session, Ask.CLOSE)
