"""The grammars of one model's requests, matched token by token in parallel with decoding.

All computation is in separate processes (process.py): requests are answered later, and the caller may continue
meanwhile. It sees token ids; it must not know of engines.
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
from loaders.grammar.messages import GrammarVocabulary, RequestKind
from loaders.grammar.process import GrammarProcess, MatcherSession
from loaders.params import SamplingParams

TokenMask = npt.NDArray[np.bool_]

#: The most grammar processes of a model: while one works on a slow grammar, others use the next.
MOST_PROCESSES = min(4, max(2, os.cpu_count() or 1))
_MOST_TEXT = 2_000_000  # bytes of the longest text that is sent; the process has finer limits


class GrammarEngine:
    """Matches grammars over one vocabulary. May be called from several threads."""

    def __init__(self, tokenizer: Tokenizer, end_ids: Iterable[int]) -> None:
        self._tokenizer = tokenizer
        self._ends = frozenset(end_ids)
        self._guard = threading.Lock()
        self._processes: list[GrammarProcess] = []
        self._numbers = itertools.count(1)
        self._closed = False
        self._packing = threading.Lock()
        self._packed = b""

    def of(self, params: SamplingParams) -> GrammarMatcher | None:
        """The request's grammar, if it has one; whether it is valid is known later. Raises: ModelClosed."""
        return self.follow(params.grammar_string) if params.grammar_string.strip() else None

    def follow(self, text: str) -> GrammarMatcher:
        """Raises: ModelClosed, InvalidGrammar."""
        data = text.encode("utf-8", "replace")
        if len(data) > _MOST_TEXT:
            raise InvalidGrammar(f"it has {len(text):,} characters, which exceeds the limit.")
        with self._guard:
            if self._closed:
                raise ModelClosed
            process = min(self._processes, key=lambda each: each.load, default=None)
            if process is None or (process.load[0] and len(self._processes) < MOST_PROCESSES):
                process = GrammarProcess(self._vocabulary, len(self._processes) + 1)
                self._processes.append(process)
            return GrammarMatcher(process, MatcherSession(next(self._numbers), data), self._tokenizer.n_vocab)

    def start(self, text: str) -> TokenMask:
        """For every token whether a text of this grammar may begin with it. Raises: UserError."""
        following = self.follow(text)
        try:
            return following.allowed()
        finally:
            following.close()

    def close(self) -> None:
        """End all processes at once. Waiting callers get ModelClosed."""
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
                self._packed = GrammarVocabulary(tuple(texts), control, self._ends).packed()
            return self._packed


class GrammarMatcher:
    """One request's grammar and the reply's position in it. Not to be used by two threads at once."""

    def __init__(self, process: GrammarProcess, session: MatcherSession, n_vocab: int) -> None:
        self._process = process
        self._session = session
        self._n_vocab = n_vocab
        self._opened = process.ask(session, RequestKind.OPEN)

    @property
    def problem(self) -> BaseException | None:
        """Why it cannot be used, as soon as that is known."""
        return self._opened.exception() if self._opened.done() else None

    def ready(self, seconds: float = 0) -> bool:
        """Whether it has been parsed or has a `problem`; waits at most this long."""
        wait([self._opened], seconds)
        return self._opened.done()

    def attempt(self, token: int) -> Future[bytes | None]:
        """Accept this token if the grammar allows it (None); otherwise return what it allows, for `mask_of`."""
        return self._process.ask(self._session, RequestKind.TRY, [token])

    def mask_of(self, answer: bytes) -> TokenMask:
        return np.unpackbits(np.frombuffer(answer, np.uint8), bitorder="little")[: self._n_vocab].astype(bool)

    def accept(self, token: int) -> Future[bytes | None]:
        """Accept this token, which is allowed; does not wait."""
        return self._process.ask(self._session, RequestKind.ACCEPT, [token])

    def rewind(self, count: int) -> Future[bytes | None]:
        """Go back by this many accepted tokens; does not wait."""
        return self._process.ask(self._session, RequestKind.REWIND, [count])

    def allows(self, token: int) -> bool:
        """Whether the reply may continue with this token. Waits. Raises: UserError."""
        return self._process.ask(self._session, RequestKind.ALLOWS, [token]).result() is None

    def allowed(self) -> TokenMask:
        """For every token whether the reply may continue with it, shape (n_vocab,). Waits. Raises: UserError."""
        return self.mask_of(self._process.ask(self._session, RequestKind.MASK).result() or b"")

    def close(self) -> None:
        """Send nothing more. Calling it again does nothing."""
        if not self._session.closed:
            self._session.closed = True
            self._process.ask(self._session, RequestKind.CLOSE)
