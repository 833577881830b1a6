"""A request on its way through the engine: the stream for its reader, and the queue between the two threads.

Knows nothing of llama.cpp: the engine puts tokens in, a reader takes them out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Protocol

import numpy as np
import numpy.typing as npt

from errors import without_frames
from loaders.base import Finish, Report, Request, Token


class TokenQueue(Protocol):
    """Where an engine puts the parts of a reply: its tokens, then why it ended."""

    def put(self, item: Token | Finish | BaseException) -> None: ...

    def get(self) -> Token | Finish | BaseException: ...


class Job:
    """One request, its report, and its tokens as they arrive. Implements `loaders.base.TokenStream`."""

    def __init__(self, request: Request, queue: TokenQueue | None = None) -> None:
        """`queue`: replaces its own, if somebody else than the job's reader gets the tokens."""
        self.request = request
        self.report = Report(prompt_tokens=len(request.ids))
        self.asked = time.monotonic()
        self.started = 0.0  # start of processing
        self.first_token = 0.0
        self.ended = False
        self._queue: TokenQueue = queue or SimpleQueue()

    # --- for the engine ---

    def start(self) -> None:
        """It leaves the queue; times are measured from here."""
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
        """No more tokens will follow. Only the first call counts."""
        if not self.ended:
            self.ended = True
            if isinstance(why, Finish):
                self.report.finish = why
            self._queue.put(why)

    # --- for the reader ---

    def __iter__(self) -> Iterator[Token]:
        return self

    def __next__(self) -> Token:
        item = self._queue.get()
        if isinstance(item, Token):
            return item
        if isinstance(item, Finish):
            self._queue.put(item)  # further calls get the same result
            raise StopIteration
        self._queue.put(without_frames(item))
        try:
            raise item
        finally:
            del item  # its traceback leads to this frame

    @property
    def job(self) -> Job:
        """Itself: a queue contains jobs and the engine's requests."""
        return self

    @property
    def prompts(self) -> list[Sequence[int]]:
        """The prompt, and with guidance the negative prompt (the last token, if there is none)."""
        request = self.request
        if request.params.guidance_scale == 1:
            return [request.ids]
        return [request.ids, request.negative_ids or request.ids[-1:]]

    @property
    def cancelled(self) -> bool:
        return self.request.cancel.is_set()

    @property
    def tokens_per_second(self) -> float:
        """Of the tokens after the first; 0 with fewer than two."""
        seconds = self.report.decode_seconds
        return (self.report.new_tokens - 1) / seconds if seconds > 0 else 0.0


class LogitsRequest(Job):
    """A request for the logits after its prompt, shape (n_vocab,), instead of a reply."""

    logits: npt.NDArray[np.float32] | None = None


class ScoreRequest(Job):
    """A request for the log-probability of each token of its prompt but the first, instead of a reply.

    `skipped`: this many of the first ones are not needed; an engine may leave them at 0.
    """

    def __init__(self, request: Request, skipped: int = 0) -> None:
        super().__init__(request)
        self.skipped = skipped
        self.logprobs = np.zeros(max(len(request.ids) - 1, 0), np.float32)


class EngineTask(Job):
    """A task for the engine's thread while nothing is decoded. What was cached before is not reused after it."""

    def __init__(self, do: Callable[[], None], label: str) -> None:
        super().__init__(Request((), label=label))
        self.do = do
