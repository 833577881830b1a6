"""GBNF grammars over any tokenizer, by the package xgrammar, for loaders without an engine of their own for them.

It sees token ids and their bytes; it must not know of models.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import xgrammar

from errors import InvalidGrammar
from loaders import gbnf
from loaders.base import Tokenizer
from loaders.params import SamplingParams


class Grammars:
    """Parses grammars for one vocabulary, which is prepared at the first one."""

    def __init__(self, tokenizer: Tokenizer, end_ids: Iterable[int]) -> None:
        self._tokenizer = tokenizer
        self._ends = sorted(end_ids)
        self._compiler: Any = None
        self._preparing = threading.Lock()

    def of(self, params: SamplingParams) -> XGrammar | None:
        """The request's grammar, if it has one. Raises: InvalidGrammar."""
        text = params.grammar_string
        if not text.strip():
            return None
        if problems := gbnf.check(text):
            raise InvalidGrammar(str(problems[0]))
        try:
            compiled = self._prepared().compile_grammar(text, root_rule_name="root")
        except (RuntimeError, ValueError) as error:
            said = str(error).strip().splitlines()
            raise InvalidGrammar(f"{said[-1][:200] if said else 'it cannot be parsed'}") from None
        return XGrammar(compiled, self._tokenizer.n_vocab)

    def _prepared(self) -> Any:
        with self._preparing:
            if self._compiler is None:
                pieces = [self._tokenizer.piece(token) for token in range(self._tokenizer.n_vocab)]
                info = xgrammar.TokenizerInfo(pieces, xgrammar.VocabType.RAW, stop_token_ids=self._ends)
                self._compiler = xgrammar.GrammarCompiler(info, max_threads=1)
            return self._compiler


class XGrammar:
    """A grammar and how far a reply has come in it."""

    def __init__(self, compiled: Any, n_vocab: int) -> None:
        self._matcher: Any = xgrammar.GrammarMatcher(compiled)
        self._mask: Any = xgrammar.allocate_token_bitmask(1, n_vocab)
        self._n_vocab = n_vocab
        self._known = False  # whether the mask is that of this place

    def allows(self, token: int) -> bool:
        """Whether the reply may go on with this token."""
        return bool(self.allowed()[token])

    def allowed(self) -> npt.NDArray[np.bool_]:
        """For every token whether the reply may go on with it, shape (n_vocab,)."""
        if not self._known:
            self._matcher.fill_next_token_bitmask(self._mask)
            self._known = True
        words = self._mask.numpy().view(np.uint8)
        return np.unpackbits(words, bitorder="little")[: self._n_vocab].astype(bool)

    def accept(self, token: int) -> None:
        self._matcher.accept_token(token)
        self._known = False

    def close(self) -> None:
        self._matcher = None
