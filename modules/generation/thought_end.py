"""Ends a thought after so many tokens, or when somebody says so: the family's own mark is written in the model's place,
and it goes on to answer.

A logits processor, so that every engine can do it: while the mark is due, its next token is the only one left. It must
not know of chats or of HTTP.
"""

from __future__ import annotations

import codecs
import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from loaders.base import Tokenizer
from modules.families.reading import Reading


class ThoughtEnd:
    """For one reply. `budget`: tokens that the thought may have; None for as many as it takes. `end` may be called
    from any thread.
    """

    def __init__(self, reading: Reading, tokenizer: Tokenizer, budget: int | None = None) -> None:
        self._family = reading.family
        self._tokenizer = tokenizer
        self._budget = budget
        self._parser = reading.parser()
        self._due: list[int] | None = None  # of the mark, once it is to be written
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._seen: int | None = None  # tokens that were there already
        self._spent = 0
        self._wanted = threading.Event()

    @property
    def thinking(self) -> bool:
        """Whether a thought is open that could be ended."""
        return self._due is None and self._parser.kind == "thought"

    def end(self) -> bool:
        """End the thought now; whether there was one."""
        was = self.thinking
        if was:
            self._wanted.set()
        return was

    def __call__(self, ids: Sequence[int], logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Logits of the next token, shape (n_vocab,)."""
        if self._due == []:  # it has been closed, once and for all
            return logits
        if self._seen is None:
            self._seen = len(ids)
        if self._due is None:
            self._read(ids[self._seen :])
            self._seen = len(ids)
            spent = self._budget is not None and self._spent >= self._budget
            if self._parser.kind == "thought" and (spent or self._wanted.is_set()):
                closing = self._family.closes(self._parser.thought or self._family.own_thought)
                self._due = self._tokenizer.encode(closing, add_bos=False, special=True)
        if not self._due:
            return logits
        forced = np.full_like(logits, -np.inf)
        forced[self._due.pop(0)] = 0
        return forced

    def _read(self, new: Sequence[int]) -> None:
        for token in new:
            data = self._tokenizer.piece(token, special=True)
            if self._tokenizer.is_special(token) and not self._family.keeps(data.decode("utf-8", "replace")):
                continue
            open_ = self._parser.kind == "thought"  # the mark's own tokens do not count
            parts = self._parser.push(self._decoder.decode(data))
            if not self._family.header and any(part.kind == "text" and part.text.strip() for part in parts):
                self._due = []  # it answers: only families of several channels think once more
                return
            self._spent += open_ and self._parser.kind == "thought"
