"""A reply that is being written into a conversation: what its reader iterates over, and what others may know of it.

Each update costs the same however long the conversation is: only the growing text is touched. Whatever ends it (the
model, Stop, an error, a reader who went away), what is there is kept. This module knows nothing of prompts.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from typing_extensions import Self

from errors import ConversationChanged, UserError
from loaders.base import Finish, Report
from modules.chat.conversation import Conversation
from modules.chat.journal import Journal
from modules.chat.opening import Opening
from modules.chat.store import Store
from modules.families.kept import Transcript, split
from modules.families.parser import Part
from modules.families.reading import Reading
from modules.generation.stream import TextStream

log = logging.getLogger(__name__)

#: What is said of a reply that is a thought alone.
_SILENT: Mapping[Finish | None, str] = {
    Finish.STOP: "The model thought, and ended its reply without an answer. Regenerate it, or say something more.",
    Finish.LENGTH: "The length limit came before the answer. Press Continue, or raise max_new_tokens.",
}


@dataclass(frozen=True, slots=True)
class Update:
    """The reply so far, in full. `report` (with its warnings) and `notes` come with the last one (`done`).

    A last update without text means that the message is not there any more: the model had nothing to say.
    """

    conversation_id: str
    message_id: str
    text: str
    done: bool
    revision: int  # of the conversation, as the page that sees this may name it in its next turn
    report: Report | None = None
    notes: tuple[str, ...] = ()
    thought: Mapping[str, Any] = field(default_factory=dict)  # `tokens` and `seconds` of what was thought so far


@dataclass
class Live:
    """What others may know of a reply under way: its text so far, and how to stop it. May be used by any thread."""

    message_id: str = ""
    text: str = ""
    thought: Mapping[str, Any] = field(default_factory=dict)
    stopped: threading.Event = field(default_factory=threading.Event)
    stream: TextStream | None = None
    keep: Callable[[], None] = field(default=lambda: None)  # writes the text down as far as it has come

    def update(self, id: str) -> Update:
        """What there is of it."""
        return Update(id, self.message_id, self.text, False, -1, thought=self.thought)

    def stop(self) -> None:
        self.stopped.set()
        if self.stream is not None:
            self.stream.cancel()

    def end_thought(self) -> bool:
        """Let it come to its answer; False where it does not think."""
        return self.stream is not None and self.stream.end_thought()

    def attach(self, stream: TextStream) -> None:
        """The stream is there now; it may have been stopped before."""
        self.stream = stream
        if self.stopped.is_set():
            stream.cancel()


class Reply:
    """An iterator of updates; closing it, or letting go of it, ends the reply and keeps what is there."""

    def __init__(
        self,
        conversation: Conversation,
        live: Live,
        stream: TextStream,
        store: Store,
        *,
        before: str | None = None,
        trim: bool = True,
        pause: float = 0.0,
        silent: bool = False,
        notes: tuple[str, ...] = (),
        others: tuple[str, ...] = (),
        reading: Reading | None = None,
        about: dict[str, Any] | None = None,
        shown: Callable[[str], dict[str, Any]] = lambda _: {},
        released: Callable[[], None] = lambda: None,
    ) -> None:
        """`before` is the version to show again if this one stays empty; `trim`: no space at the beginning.

        `pause`: seconds between two updates at least; `silent`: none but the last. `shown` tells what is
        to be kept of how the finished text is shown; `released` is called once. A reply that begins with the name of
        one of the `others` ends there: it is not theirs. `reading` takes it apart.
        """
        self._conversation = conversation
        self._live = live
        self._stream = stream
        self._store = store
        self._before = before
        self._transcript = Transcript(reading or Reading(), stream.marks, live.text, trim=trim)
        self._thought_began: float | None = None
        self._thought_took = 0.0
        self._pause = float("inf") if silent else pause
        self._shown_at = float("-inf") if not silent else 0.0
        self._notes = notes
        self._opening = Opening(others)
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

    def __iter__(self) -> Iterator[Update]:
        return self

    def __next__(self) -> Update:
        """The next update; the last one is `done`. Raises: UserError, when the engine or the disk gives up."""
        while not self._ended:
            try:
                piece = next(self._stream)
            except StopIteration:
                return self._end()
            except BaseException as error:
                self._end(error)
                raise
            if not self._take(self._transcript.push(piece.text, len(piece.tokens))):
                return self._end()
            if self._transcript.text == self._live.text:
                continue
            self._live.text, self._live.thought = self._transcript.text, self._thought()
            self._journal.note(self._live.text)
            now = time.monotonic()
            if now - self._shown_at >= self._pause:
                self._shown_at = now
                return Update(
                    self.conversation_id,
                    self.message_id,
                    self._live.text,
                    False,
                    self._revision,
                    thought=self._live.thought,
                )
        raise StopIteration

    def _take(self, parts: list[Part]) -> bool:
        """Write down what has come; False where somebody else begins to speak."""
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
        """What is to be said about the thought; nothing without one."""
        if self._thought_began is None:
            return {}
        return {"tokens": self._transcript.tokens, "seconds": round(self._thought_took, 1)}

    def close(self) -> None:
        """End it now; what is there is kept. Calling it again does nothing."""
        if self._ended:
            return
        if self._journal.is_running_here:  # the collector of garbage may call this from wherever it pleases
            self._close_elsewhere()
            return
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # it may be gone before it was complete; and at the program's end the journal's thread stands still
        if not getattr(self, "_ended", True) and not sys.is_finalizing():
            self._close_elsewhere()

    # --- the end ---

    def _close_elsewhere(self) -> None:
        """As `close`, in a thread of its own: this one may hold any lock, or be the one that is to be waited for."""
        self._stream.cancel()
        with contextlib.suppress(RuntimeError):  # the program ends: the journal has the text
            threading.Thread(target=self._close_alone, name="reply's end", daemon=True).start()

    def _close_alone(self) -> None:
        try:
            self.close()
        except UserError as error:  # nobody is there any more to be told
            log.warning("A reply whose reader went away could not be saved: %s", error)

    def _end(self, error: BaseException | None = None) -> Update:
        """Store the reply for good.

        Raises: Unavailable, unless it ends by an `error` already. The journal keeps the text then.
        """
        self._ended = True
        try:
            return self._settled(error)
        finally:
            self._released()  # whatever went wrong: nobody could write into this conversation any more

    def _settled(self, error: BaseException | None) -> Update:
        self._stream.close()
        self._journal.close()
        report = self._stream.report
        if not self._opening.speaker and self._take(self._transcript.finish()) and (rest := self._opening.rest()):
            self._transcript.write("text", rest)
        if self._transcript.text != self._live.text:
            self._live.text, self._live.thought = self._transcript.text, self._thought()
            self._journal.note(self._live.text)
        text = self._live.text.rstrip() if report.finish is Finish.STOP else self._live.text
        notes = self._notes
        if speaker := self._opening.speaker:
            notes = (*notes, f"The model began to speak for {speaker}, and was ended there. Regenerate, or say more.")
        elif not text and error is None and report.finish is Finish.STOP:
            notes = (*notes, "The model ended its reply without a word. Regenerate it, or say something more.")
        elif (
            error is None and (why := _SILENT.get(report.finish)) and (kept := split(text)).thought and not kept.answer
        ):
            notes = (*notes, why)
        try:
            shown = self._shown(text) if text and error is None else {}
            report = self._stream.report  # again: an extension may have something to say by now
            self._save(text, {**self._facts(report, notes, error), **shown})
        except UserError as failure:
            self._journal.flush()
            if error is None:
                raise
            log.warning("The reply could not be saved after an error: %s", failure)
        return Update(
            self.conversation_id,
            self.message_id,
            text,
            True,
            self._conversation.revision,
            report,
            notes,
            self._thought(),
        )

    def _save(self, text: str, facts: dict[str, Any]) -> None:
        conversation = self._conversation
        try:
            self._put(conversation, text, facts)
            self._store.save(conversation, self._revision)
        except ConversationChanged:  # another program wrote to it meanwhile: the reply goes into what is there now
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
        """What is kept about how this reply was made: the report, and what was asked for."""
        return {
            **{key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(report).items()},
            "finish": report.finish.value if report.finish and error is None else None,
            "warnings": report.warnings or None,
            "notes": list(notes) or None,
            "error": str(error) if isinstance(error, UserError) else repr(error) if error else None,
            "asked": self._about,
            **({"thought": dict(self._thought())} if self._thought() else {}),
        }
