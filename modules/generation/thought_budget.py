"""Ends reasoning after a number of tokens or on request: the family's own closing mark is forced, and the model
continues with its answer.

A logits processor, so that every engine supports it: while the mark is due, only its next token is allowed. It is also
a `loaders.base.TokenForcer`, for engines in other processes. It must not know of chats or HTTP.
"""

from __future__ import annotations

import codecs
import threading
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from loaders.base import Tokenizer
from loaders.prefix import has_gone_back
from modules.families.reply_format import ReplyFormat


class ThoughtBudget:
    """For one reply. `budget`: the most tokens of reasoning; None for no limit. `end` may be called from any thread."""

    def __init__(self, reading: ReplyFormat, tokenizer: Tokenizer, budget: int | None = None) -> None:
        self._family = reading.family
        self._tokenizer = tokenizer
        self._budget = budget
        self._reading = reading
        self._parser = reading.parser()
        self._mark: list[int] | None = None  # the tokens that follow what was read; [] if it has answered by itself
        self._due: list[int] = []  # those of the mark that are still to be written
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._start: int | None = None  # tokens that existed before
        self._read_ids: list[int] = []  # those that were read since
        self._spent = 0
        self._wanted = threading.Event()
        self.wake: Callable[[], None] = lambda: None

    @property
    def thinking(self) -> bool:
        """Whether reasoning is open that could be ended."""
        return self._mark is None and self._parser.kind == "thought"

    def end(self) -> bool:
        """End the reasoning now; returns whether there was any."""
        was = self.thinking
        if was:
            self._wanted.set()
            self.wake()
        return was

    def __call__(self, ids: Sequence[int], logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Change the logits of the next token, shape (n_vocab,)."""
        token = self.forced(ids)
        if token is None:
            return logits
        forced = np.full_like(logits, -np.inf)
        forced[token] = 0
        return forced

    def read(self, ids: Sequence[int]) -> None:
        """Process the tokens so far. The first call shows which of them existed before."""
        if self._start is None:
            self._start = len(ids)
        if self._mark is not None and has_gone_back(ids, self._start, self._read_ids):
            self._mark = None
        if self._mark is None:
            self._catch_up(list(ids[self._start :]))

    def _catch_up(self, reply: list[int]) -> None:
        known = len(self._read_ids)
        if reply[:known] != self._read_ids:
            self._parser, self._spent, known = self._reading.parser(), 0, 0
            self._decoder.reset()
        self._read_ids = reply
        self._read(reply[known:])

    def forced(self, ids: Sequence[int]) -> int | None:
        """The mark's next token while the mark is due."""
        self.read(ids)
        if self._mark is None:
            spent = self._budget is not None and self._spent >= self._budget
            if self._parser.kind == "thought" and (spent or self._wanted.is_set()):
                closing = self._family.closes(self._parser.thought or self._family.own_thought)
                self._mark = self._tokenizer.encode(closing, add_bos=False, special=True)
        if not self._mark:
            return None
        assert self._start is not None
        written = len(ids) - self._start - len(self._read_ids)
        self._due = self._mark[written + 1 :]
        return self._mark[written] if written < len(self._mark) else None

    def patience(self) -> int:
        """How many tokens at least come before the budget is used up; -1 if nothing is left to do."""
        if self._mark is not None:
            return 0 if self._due else -1
        if self._wanted.is_set():
            return 0
        return -1 if self._budget is None else max(self._budget - self._spent, 0)

    def _read(self, new: Sequence[int]) -> None:
        for token in new:
            data = self._tokenizer.piece(token, special=True)
            if self._tokenizer.is_special(token) and not self._family.keeps(data.decode("utf-8", "replace")):
                continue
            open_ = self._parser.kind == "thought"  # the mark's own tokens do not count
            parts = self._parser.push(self._decoder.decode(data))
            if not self._family.header and any(part.kind == "text" and part.text.strip() for part in parts):
                self._mark = []  # it is answering: only families with several channels start reasoning again
                return
            self._spent += open_ and self._parser.kind == "thought"
