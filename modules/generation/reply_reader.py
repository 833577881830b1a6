"""Reads replies to their ends: in the thread that brings their tokens, or in the event loop if that gets them, and in a
thread of their own where somebody has to wait for each token.

It must not know what is done with the text.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from errors import without_frames
from loaders.pushed_stream import Loop
from modules.generation.stream import TextPiece

if TYPE_CHECKING:
    from modules.generation.completions import Completion

log = logging.getLogger(__name__)


class PieceReader(Protocol):
    """What is done with one reply, quickly: the thread may bring all other replies' tokens. If anything raises, that is
    the reply's error, and all others end.
    """

    def take(self, pieces: Sequence[TextPiece]) -> None:
        """The next pieces, which arrived together."""
        ...

    def end(self) -> None:
        """The reply is complete."""
        ...

    def fail(self, error: BaseException) -> None:
        """The reply has this error."""
        ...


class ReplyReader:
    """Reads the replies to one request. `done` is called once, in the thread in which the last of them ends."""

    def __init__(
        self, answers: Sequence[Completion], reader: Callable[[Completion], PieceReader], done: Callable[[], None]
    ) -> None:
        self._answers = answers
        self._reader = reader
        self._done = done
        self._left = len(answers)
        self._lock = threading.Lock()

    def begin(self, loop: Loop | None = None) -> None:
        """Start to read. `loop`: for replies whose tokens arrive in an event loop."""
        for answer in self._answers:
            if answer.echo or not self._follow(answer, loop):  # scoring the prompt waits for the model
                threading.Thread(target=self._read, args=(answer,), name="reply", daemon=True).start()

    def _follow(self, answer: Completion, loop: Loop | None) -> bool:
        """Read it as its tokens arrive. False if somebody must wait for them."""
        stream, over = answer.stream, False
        reader, reading = self._reader(answer), threading.Lock()  # the first call may come beside the next ones

        def advance() -> None:
            nonlocal over
            with reading:
                if over:
                    return
                pieces: list[TextPiece] = []
                try:
                    try:
                        while stream.ready and not over:
                            if piece := next(stream, None):
                                pieces.append(piece)
                            else:
                                over = True
                    finally:  # text before an error
                        if pieces:
                            reader.take(pieces)
                    if over:
                        reader.end()
                except BaseException as error:
                    over = True
                    self._fail(answer, reader, error)
                if over:
                    self._end(answer)

        return stream.listen(loop, advance)

    def _read(self, answer: Completion) -> None:
        reader = self._reader(answer)
        try:
            answer.prompt_tokens()  # the prompt's logprobs come first, and scoring may take a while
            for piece in answer.stream:
                reader.take((piece,))
            reader.end()
        except BaseException as error:
            self._fail(answer, reader, error)
        self._end(answer)

    def _fail(self, answer: Completion, reader: PieceReader, error: BaseException) -> None:
        answer.error = without_frames(error)
        try:
            reader.fail(error)
        except Exception:
            log.exception("The error of a reply")
        for each in self._answers:
            each.cancel()

    def _end(self, answer: Completion) -> None:
        answer.stream.close()
        with self._lock:
            self._left -= 1
            last = not self._left
        if last:
            self._done()
