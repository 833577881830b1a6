"""A request on its way through the engine: the stream that its reader holds, and the queue between the two threads.

Knows nothing of llama.cpp: the engine puts tokens in at one end, a reader takes them out at the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

from loaders.base import Finish, Report, Request, Token


class Job:
    """One request, its report, and its tokens as they come. Implements `loaders.base.TokenStream`."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.report = Report(prompt_tokens=len(request.ids))
        self.asked = time.monotonic()
        self.started = 0.0  # left the queue
        self.first_token = 0.0
        self.ended = False
        self._queue: SimpleQueue[Token | Finish | BaseException] = SimpleQueue()

    # --- the engine's end ---

    def start(self) -> None:
        """It leaves the queue; seconds are counted from here."""
        if not self.started:
            self.started = time.monotonic()
            self.report.queued_seconds = self.started - self.asked

    def put(self, token: Token) -> None:
        now = time.monotonic()
        if not self.first_token:
            self.first_token = now
            self.report.prompt_seconds = now - self.started
        self.report.decode_seconds = now - self.first_token
        self.report.new_tokens += 1
        self._queue.put(token)

    def end(self, why: Finish | BaseException) -> None:
        """No more tokens will come. Only the first call counts."""
        if not self.ended:
            self.ended = True
            if isinstance(why, Finish):
                self.report.finish = why
            self._queue.put(why)

    # --- the reader's end ---

    def __iter__(self) -> Iterator[Token]:
        return self

    def __next__(self) -> Token:
        item = self._queue.get()
        if isinstance(item, Token):
            return item
        self._queue.put(item)  # whoever asks again gets the same answer
        if isinstance(item, Finish):
            raise StopIteration
        raise item

    @property
    def job(self) -> Job:
        """Itself: a line holds jobs and what engines make of them."""
        return self

    @property
    def prompts(self) -> list[Sequence[int]]:
        """The prompt, and the negative prompt when guidance is asked for (the last token, if there is none)."""
        request = self.request
        if request.params.guidance_scale == 1:
            return [request.ids]
        return [request.ids, request.negative_ids or request.ids[-1:]]

    @property
    def cancelled(self) -> bool:
        return self.request.cancel.is_set()

    @property
    def tokens_per_second(self) -> float:
        """Of the tokens after the first; 0 while there are fewer than two."""
        seconds = self.report.decode_seconds
        return (self.report.new_tokens - 1) / seconds if seconds > 0 else 0.0


class Probe(Job):
    """A request for the logits after its prompt, shape (n_vocab,), instead of a reply."""

    logits: npt.NDArray[np.float32] | None = None


class Scoring(Job):
    """A request for the log-probability of each token of its prompt but the first, instead of a reply.

    `skipped`: the first so many of them are not asked for; an engine may leave them at 0.
    """

    def __init__(self, request: Request, skipped: int = 0) -> None:
        super().__init__(request)
        self.skipped = skipped
        self.logprobs = np.zeros(max(len(request.ids) - 1, 0), np.float32)


class Errand(Job):
    """Something to be done on the engine's thread while nothing is decoded. What was cached is not reused after it."""

    def __init__(self, do: Callable[[], None], label: str) -> None:
        super().__init__(Request((), label=label))
        self.do = do
