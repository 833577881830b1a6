"""A reply in progress: an iterator of text that can be stopped at any time.

Closing it, cancelling it, leaving its `with` block, or dropping the last reference frees the engine within one token.
Knows nothing of chats or HTTP.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from typing_extensions import Self

from loaders.base import Finish, Report, Token, Tokenizer, TokenStream
from loaders.pushed_stream import Loop, PushedStream
from modules.generation.text import TextAssembler
from modules.generation.thought_budget import ThoughtBudget


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Some text, and the tokens that begin in it; `starts` says how many characters of the reply precede each.

    A token is included as soon as one of its characters is, so tokens of a stop string never are.
    """

    text: str
    tokens: list[Token] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)


class TextStream:
    """One reply as text. Read by one thread; `cancel` may be called from any."""

    def __init__(
        self,
        tokens: TokenStream,
        tokenizer: Tokenizer,
        cancel: threading.Event,
        *,
        stop: Sequence[str] = (),
        skip_special: bool = True,
        keep: Callable[[str], bool] | None = None,
        tokens_per_second: float = 0.0,
        warnings: Sequence[str] = (),
        notes: Sequence[str] = (),
        model: str = "",
        thought: ThoughtBudget | None = None,
    ) -> None:
        """`keep` decides whether a control token's text stays in the reply, because the parser needs it as a mark.
        `thought` can end the model's reasoning. `warnings` are known now; `notes` is a list that others may add to
        until the end.
        """
        self.model = model  # its name: another model may be loaded by the time it is requested
        self._tokens = tokens
        self._pushed: PushedStream | None = None  # the same, once somebody listens to it
        self._thought = thought
        self._tokenizer = tokenizer
        self._cancel = cancel
        self._assembler = TextAssembler(stop)
        self._stop = frozenset(stop)
        self._skip_special = skip_special
        self._keep_mark = keep
        self.marks: set[int] = set()  # how many characters precede each control token in the text
        self._pause = 1 / tokens_per_second if tokens_per_second > 0 else 0.0
        self._next_at = 0.0
        self._warnings = list(warnings)
        self._notes = notes
        self._parts: list[str] = []
        self._given = 0  # characters
        self._held: deque[tuple[int, Token]] = deque()  # tokens of which nothing is shown yet, and where they begin
        self._count = 0
        self._finish: Finish | None = None
        self._open = True

    # --- reading ---

    def __iter__(self) -> Iterator[TextPiece]:
        return self

    def __next__(self) -> TextPiece:
        """The next piece, one per token. Raises: UserError if the engine fails."""
        if not self._open:
            raise StopIteration
        if self._cancel.is_set():  # tokens that arrived meanwhile are not shown: stop takes effect at once
            return self._last(Finish.CANCELLED)
        try:
            token = next(self._tokens)
            data = self._data(token)
        except StopIteration:
            return self._last(self._tokens.report.finish or Finish.STOP)
        except BaseException:
            self.close()
            raise
        self._count += 1
        if data is None:
            return self._last(Finish.STOP)
        self._held.append((self._assembler.seen, token))
        text = self._keep(self._assembler.push(data))
        if self._assembler.stopped_by is not None:
            self._end(Finish.STOP)
        elif self._pause:
            self._throttle()
        return self._piece(text)

    def listen(self, loop: Loop | None, wake: Callable[[], None]) -> bool:
        """Call this when `ready` may have become true, also for what is here already: in the thread that brings the
        tokens, or in the loop. False, and no call, if somebody must wait for each token.
        """
        if self._pause or not isinstance(self._tokens, PushedStream):
            return False
        self._pushed = self._tokens
        return self._pushed.listen(loop, wake)

    @property
    def ready(self) -> bool:
        """Whether the next piece, or the end, is there; for a stream that is listened to."""
        return not self._open or (self._pushed is not None and self._pushed.waiting)

    @property
    def text(self) -> str:
        """All text so far."""
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0] if self._parts else ""

    @property
    def stopped_by(self) -> str | None:
        """The stop string that ended it, if there was one."""
        return self._assembler.stopped_by

    @property
    def report(self) -> Report:
        """Warnings about the reply so far; complete once the stream has ended."""
        report = self._tokens.report
        warnings = list(dict.fromkeys([*self._warnings, *self._notes, *report.warnings]))
        return replace(report, new_tokens=self._count, finish=self._finish, warnings=warnings)

    # --- ending ---

    def cancel(self) -> None:
        """Stop it within one token; its text is kept. From any thread, at any time, any number of times."""
        self._cancel.set()

    def end_thought(self) -> bool:
        """End the model's reasoning; False if there is none. From any thread."""
        return self._thought is not None and self._thought.end()

    def close(self) -> None:
        """Release the engine at once and show nothing more. Calling it again does nothing."""
        if self._open:
            self._end(Finish.CANCELLED)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_open", False):  # __init__ may have failed halfway
            self.close()

    # --- inside ---

    def _data(self, token: Token) -> bytes | None:
        """The bytes of this token; None for a control token that ends the reply."""
        if not self._tokenizer.is_special(token.id):
            return token.data
        data = token.data or self._tokenizer.piece(token.id, special=True)
        text = data.decode("utf-8", "replace")
        if self._skip_special and text in self._stop:
            return None  # it would not be in the text in which stop strings are looked for
        if self._skip_special and not (self._keep_mark and self._keep_mark(text)):
            return b""
        self.marks.add(self._assembler.seen)
        return data

    def _last(self, finish: Finish) -> TextPiece:
        """The end: what was held back. An empty last piece ends the iteration at once."""
        text = self._keep(self._assembler.finish())
        self._end(Finish.STOP if self._assembler.stopped_by is not None else finish)
        if not text:
            raise StopIteration
        return self._piece(text)

    def _keep(self, text: str) -> str:
        if text:
            self._parts.append(text)
            self._given += len(text)
        return text

    def _piece(self, text: str) -> TextPiece:
        piece = TextPiece(text)
        while self._held and self._held[0][0] < self._given:
            start, token = self._held.popleft()
            piece.tokens.append(token)
            piece.starts.append(start)
        return piece

    def _end(self, finish: Finish) -> None:
        self._open = False
        self._finish = finish
        self._cancel.set()  # the engine may be in the middle of the next token

    def _throttle(self) -> None:
        now = time.monotonic()
        self._next_at = max(self._next_at + self._pause, now)
        if self._next_at > now:
            self._cancel.wait(min(self._next_at - now, threading.TIMEOUT_MAX))
