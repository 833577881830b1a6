"""A reply that is being written into a conversation: an iterator for its reader, and its state for others.

The cost of an update does not depend on the conversation's length: only the growing text is touched. Whatever ends it
(the model, Stop, an error, a client that disconnects), the text so far is kept. This module knows nothing of prompts.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from typing_extensions import Self

from errors import ConversationChanged, UserError
from loaders.base import Finish, Report
from modules.chat.conversation import Conversation
from modules.chat.speaker_guard import SpeakerGuard
from modules.chat.store.journal import Journal
from modules.families.parser import ReplyPart
from modules.families.reply_format import ReplyFormat
from modules.families.saved_reply import ReplyWriter, split_reply
from modules.generation.stream import TextStream

log = logging.getLogger(__name__)

#: The note for a reply that contains only reasoning.
_EMPTY: Mapping[Finish | None, str] = {
    Finish.STOP: "The model returned an empty reply. Regenerate it, or send another message.",
    Finish.LENGTH: "The model generated only control tokens, no text. Regenerate the reply, or send another message.",
}
_SILENT: Mapping[Finish | None, str] = {
    Finish.STOP: "The model returned only its reasoning, no answer. Regenerate it, or send another message.",
    Finish.LENGTH: "The length limit was reached before the answer. Press Continue, or raise max_new_tokens.",
}

#: Characters per second that are joined for watchers of a long reply; a short one is updated at once.
_GLANCED = 20_000_000


class ReplyStore(Protocol):
    """Where the conversation of a reply is stored."""

    def journal(self, id: str) -> Path | None: ...

    def save(self, conversation: Conversation, expected_revision: int | None = None) -> None: ...

    def open(self, id: str) -> Conversation: ...


@dataclass(frozen=True, slots=True)
class ReplyUpdate:
    """The whole reply so far. `report` (with its warnings) and `notes` come with the last update (`done`).

    A last update without text means that the message was removed: the model returned nothing.
    """

    conversation_id: str
    message_id: str
    text: str
    done: bool
    revision: int  # of the conversation, for the page's next request
    report: Report | None = None
    notes: tuple[str, ...] = ()
    thought: Mapping[str, Any] = field(default_factory=dict)  # `tokens` and `seconds` of the reasoning so far
    tokens: int = 0  # so far
    seconds: float = 0.0  # since the first one


@dataclass
class ActiveReply:
    """A reply in progress as others see it: its text so far, and how to stop it. May be used from any thread."""

    message_id: str = ""
    read: Callable[[], str] = field(default=str)  # its text so far, callable from any thread
    thought: Mapping[str, Any] = field(default_factory=dict)
    pace: tuple[int, float] = (0, 0.0)  # tokens so far, and seconds since the first one
    stopped: threading.Event = field(default_factory=threading.Event)
    stream: TextStream | None = None
    keep: Callable[[], None] = field(default=lambda: None)  # saves the text so far

    @property
    def text(self) -> str:
        return self.read()

    def update(self, id: str) -> ReplyUpdate:
        """Its current state."""
        tokens, seconds = self.pace
        return ReplyUpdate(
            id, self.message_id, self.text, False, -1, thought=self.thought, tokens=tokens, seconds=seconds
        )

    def stop(self) -> None:
        self.stopped.set()
        if self.stream is not None:
            self.stream.cancel()

    def end_thought(self) -> bool:
        """End the reasoning; False if there is none."""
        return self.stream is not None and self.stream.end_thought()

    def attach(self, stream: TextStream) -> None:
        """Set the stream, which exists now; the reply may have been stopped before."""
        self.stream = stream
        if self.stopped.is_set():
            stream.cancel()


class Reply:
    """An iterator of updates; closing it or dropping the last reference ends the reply and keeps the text so far."""

    def __init__(
        self,
        conversation: Conversation,
        live: ActiveReply,
        stream: TextStream,
        store: ReplyStore,
        *,
        before: str | None = None,
        trim: bool = True,
        pause: float = 0.0,
        silent: bool = False,
        notes: tuple[str, ...] = (),
        others: tuple[str, ...] = (),
        reading: ReplyFormat | None = None,
        about: dict[str, Any] | None = None,
        shown: Callable[[str], dict[str, Any]] = lambda _: {},
        released: Callable[[], None] = lambda: None,
    ) -> None:
        """`before` is the version to show again if this one stays empty; `trim`: no space at the beginning.

        `pause`: minimum seconds between two updates; `silent`: only the last update. `shown` returns the display text
        to save for the finished reply; `released` is called once. A reply that begins with the name of one of the
        `others` ends there. `reading` parses it.
        """
        self._conversation = conversation
        self._live = live
        self._stream = stream
        self._store = store
        self._before = before
        self._begun = live.text
        self._transcript = ReplyWriter(reading or ReplyFormat(), stream.marks, self._begun, trim=trim)
        self._changes = 0  # of the transcript, as last reported to others
        self._began = 0.0  # when the first token came
        self._thought_began: float | None = None
        self._thought_took = 0.0
        self._pause = float("inf") if silent else pause
        self._shown_at = float("-inf") if not silent else 0.0
        self._notes = notes
        self._opening = SpeakerGuard(others)
        self._about = about or {}
        self._shown = shown
        self._released = released
        self._revision = conversation.revision
        self._ended = False
        self._journal = Journal(store.journal(conversation.id), live.message_id)
        live.keep = self._journal.keep

    @property
    def conversation_id(self) -> str:
        return self._conversation.id

    @property
    def message_id(self) -> str:
        return self._live.message_id

    def __iter__(self) -> Iterator[ReplyUpdate]:
        return self

    def __next__(self) -> ReplyUpdate:
        """The next update; the last one is `done`. Raises: UserError if the engine or the disk fails."""
        while not self._ended:
            try:
                piece = next(self._stream)
            except StopIteration:
                return self._end()
            except BaseException as error:
                self._end(error)
                raise
            self._count(len(piece.tokens))
            if not self._take(self._transcript.push(piece.text, len(piece.tokens))):
                return self._end()
            if self._transcript.changes == self._changes:
                continue
            self._changed()
            now = time.monotonic()
            if now - self._shown_at >= max(self._pause, self._transcript.size / _GLANCED):
                self._shown_at = now
                return ReplyUpdate(
                    self.conversation_id,
                    self.message_id,
                    self._transcript.text,
                    False,
                    self._revision,
                    thought=self._live.thought,
                    tokens=self._live.pace[0],
                    seconds=self._live.pace[1],
                )
        raise StopIteration

    def _count(self, tokens: int) -> None:
        now = time.monotonic()
        self._began = self._began or now
        self._live.pace = self._live.pace[0] + tokens, now - self._began

    def _changed(self) -> None:
        """Notify others of new text. The cost does not grow with the reply."""
        self._changes = self._transcript.changes
        self._live.read, self._live.thought = self._transcript.so_far, self._thought()
        self._journal.note(self._transcript.so_far)

    def _take(self, parts: list[ReplyPart]) -> bool:
        """Store new text; False if another speaker begins."""
        for part in parts:
            if part.kind == "thought":
                self._thought_began = self._thought_began or time.monotonic()
                self._thought_took = time.monotonic() - self._thought_began
                self._transcript.write("thought", part.text)
                continue
            fresh = not (self._transcript.answered or self._opening.held)
            text = self._opening.push(part.text.lstrip() if fresh and self._transcript.trim else part.text)
            if self._opening.speaker:
                return False
            if text:
                self._transcript.write("text", text)
        return True

    def _thought(self) -> Mapping[str, Any]:
        """What to report about the reasoning; nothing without any."""
        if self._thought_began is None:
            return {}
        return {"tokens": self._transcript.tokens, "seconds": round(self._thought_took, 1)}

    def close(self) -> None:
        """End it now and keep the text so far. Calling it again does nothing."""
        if self._ended:
            return
        if self._journal.is_running_here:  # the garbage collector may call this from any thread
            self._close_elsewhere()
            return
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # __init__ may have failed halfway; and at shutdown the journal's thread is stopped
        if not getattr(self, "_ended", True) and not sys.is_finalizing():
            self._close_elsewhere()

    # --- the end ---

    def _close_elsewhere(self) -> None:
        """As `close`, in its own thread: the current one may hold any lock, or be the one to wait for."""
        self._stream.cancel()
        with contextlib.suppress(RuntimeError):  # the program is ending: the journal has the text
            threading.Thread(target=self._close_alone, name="reply's end", daemon=True).start()

    def _close_alone(self) -> None:
        try:
            self.close()
        except UserError as error:  # nobody is left to report it to
            log.warning("A reply could not be saved after its client disconnected: %s", error)

    def _end(self, error: BaseException | None = None) -> ReplyUpdate:
        """Store the reply permanently.

        Raises: Unavailable, unless it ends with an `error` already. The journal keeps the text then.
        """
        self._ended = True
        try:
            return self._settled(error)
        finally:
            self._released()  # always, or nobody could write into this conversation any more

    def _settled(self, error: BaseException | None) -> ReplyUpdate:
        self._stream.close()
        self._journal.close()
        report = self._stream.report
        if (
            not self._opening.speaker
            and self._take(self._transcript.finish(cut=error is not None or report.finish is not Finish.STOP))
            and (rest := self._opening.rest())
        ):
            self._transcript.write("text", rest)
        if self._transcript.changes != self._changes:
            self._changed()
        text = self._transcript.text if self._transcript.changes else self._begun
        text = text.rstrip() if report.finish is Finish.STOP else text
        notes = self._notes
        if speaker := self._opening.speaker:
            notes = (
                *notes,
                f"The reply was cut where the model started speaking as {speaker}. Regenerate it, or send another "
                "message.",
            )
        elif error is None and (why := self._why_silent(text, report.finish)):
            notes = (*notes, why)
        try:
            shown = self._shown(text) if text and error is None else {}
            report = self._stream.report  # again: an extension may have added notes meanwhile
            self._save(text, {**self._facts(report, notes, error), **shown})
        except UserError as failure:
            self._journal.flush()
            if error is None:
                raise
            log.warning("The reply could not be saved after an error: %s", failure)
        return ReplyUpdate(
            self.conversation_id,
            self.message_id,
            text,
            True,
            self._conversation.revision,
            report,
            notes,
            self._thought(),
        )

    @staticmethod
    def _why_silent(text: str, finish: Finish | None) -> str | None:
        """A sentence about a finished reply without an answer."""
        if not text:
            return _EMPTY.get(finish)
        kept = split_reply(text)
        return _SILENT.get(finish) if kept.thought and not kept.answer else None

    def _save(self, text: str, facts: dict[str, Any]) -> None:
        conversation = self._conversation
        try:
            self._put(conversation, text, facts)
            self._store.save(conversation, self._revision)
        except ConversationChanged:  # another program wrote to it meanwhile: the reply is added to its current contents
            latest = self._store.open(conversation.id)
            if self.message_id not in latest:
                last = latest.last()
                self._live.message_id = latest.add("assistant", "", last.id if last else None).id
            self._put(latest, text, facts)
            self._store.save(latest, latest.revision)
            self._conversation = latest

    def _put(self, conversation: Conversation, text: str, facts: dict[str, Any]) -> None:
        if text:
            conversation.set_text(self.message_id, text, model=self._stream.model, unfinished=None, **facts)
            return
        conversation.remove(self.message_id)
        if self._before is not None and self._before in conversation:
            conversation.select(self._before)

    def _facts(self, report: Report, notes: tuple[str, ...], error: BaseException | None) -> dict[str, Any]:
        """What is saved about how this reply was generated: the report and the settings."""
        return {
            **{key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(report).items()},
            "finish": report.finish.value if report.finish and error is None else None,
            "warnings": report.warnings or None,
            "notes": list(notes) or None,
            "error": str(error) if isinstance(error, UserError) else repr(error) if error else None,
            "asked": self._about,
            **({"thought": dict(self._thought())} if self._thought() else {}),
        }
