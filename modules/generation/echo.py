"""A prompt that is returned with its replies, with the log-probabilities of its tokens.

Scoring a long prompt takes a while, so it is done when it is first requested, once for all of its replies.
"""

from __future__ import annotations

import codecs
import itertools
import threading
from collections.abc import Sequence

from loaders.base import Alternative, Model, Token


class PromptLogprobs:
    """`alternatives` None: only the text. `score` may be called from several threads, `cancel` from any."""

    def __init__(self, model: Model, ids: Sequence[int], alternatives: int | None) -> None:
        added = model.tokenizer.encode("", add_bos=True, special=True)[:1]
        self._ids = list(ids)
        # the start token is not shown: the client did not send it
        self._own = self._ids[len(added) :] if added and self._ids[: len(added)] == added else self._ids
        self._pieces = [model.tokenizer.piece(token, special=True) for token in self._own]
        self._model = model
        self._alternatives = alternatives
        self._cancel = threading.Event()
        self._lock = threading.Lock()
        self._tokens: list[Token] | None = [] if alternatives is None else None
        self.text, self.starts = _placed(self._pieces)

    def tokens(self) -> list[Token]:
        """The prompt's tokens; the first call waits for the model. Raises: UserError, Cancelled."""
        with self._lock:
            if self._tokens is None:
                self._tokens = self._scored()
            return self._tokens

    def cancel(self) -> None:
        """Stop the scoring, or prevent it from starting."""
        self._cancel.set()

    def _scored(self) -> list[Token]:
        scores: list[float | None] = [None, *(float(score) for score in self._model.score(self._ids, self._cancel))]
        tokens = []
        for token, data, score in zip(self._own, self._pieces, scores[len(scores) - len(self._own) :], strict=True):
            others = (Alternative(token, data, score),) if score is not None and self._alternatives else ()
            tokens.append(Token(token, data, score, others))
        return tokens


def _placed(pieces: Sequence[bytes]) -> tuple[str, list[int]]:
    """The text of all pieces, and how many whole characters precede each."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    texts = [decoder.decode(piece) for piece in pieces]
    starts = list(itertools.accumulate(map(len, texts), initial=0))[:-1]
    return "".join([*texts, decoder.decode(b"", final=True)]), starts
