"""Lets the model continue a draft: the text grows in place and on disk, and can be stopped, undone and regenerated.

It knows drafts and how to generate text; it must not know of chats, templates or pages.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from errors import Conflict, NothingToDo, UserError
from loaders.base import Finish, Report
from loaders.params import SamplingParams
from modules.extensions import HookContext
from modules.generation.generator import Generator
from modules.generation.stream import TextStream
from modules.prompts.drafts import Draft, Drafts

log = logging.getLogger(__name__)

#: Seconds between two saves of a growing text: at most this much is lost in a crash.
INTERVAL = 0.5
_MOST_EXPECTED = 256
#: What is said of a generation that added no text; of one that was stopped, nothing.
_EMPTY: Mapping[Finish | None, str] = {
    Finish.STOP: "The model ended at once and added no text. Change the text or the parameters and try again.",
    Finish.LENGTH: "The model generated only control tokens, no text. Change the text or the parameters and try again.",
}
_ENDING = 1.0  # seconds to wait at shutdown until texts are stored


@dataclass(frozen=True, slots=True)
class DraftUpdate:
    """The text so far. In the last update, `draft` is set and says how it ended."""

    text: str
    draft: Draft | None = None
    report: Report | None = None


@dataclass
class _Live:
    text: str
    pieces: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    stream: TextStream | None = None


class DraftWriter:
    """Lets the model write into drafts, one reply at a time per draft. May be used from several threads."""

    def __init__(self, generator: Generator, drafts: Drafts) -> None:
        self._generator = generator
        self._extensions = generator.extensions
        self._drafts = drafts
        self._lock = threading.RLock()  # reentrant: the garbage collector may close a generator while the lock is held
        self._live: dict[str, _Live] = {}
        #: Runs that are about to start, by draft and writer; set if it was stopped before.
        self._expected: dict[tuple[str, str], threading.Event] = {}

    def continue_draft(
        self, id: str, params: SamplingParams, *, start: str | None = None, writer: str = "", again: bool = False
    ) -> Iterator[DraftUpdate]:
        """Continue at the end of the draft; from `start`, which becomes its text; or, `again`, from before the last
        run. Nothing is changed before the engine has accepted the prompt.

        Raises, at the first step: UserError. Closing the iterator ends the reply and keeps the text.
        """
        draft = self._drafts.open(id)
        if again and not draft.before:
            raise NothingToDo("Nothing to regenerate yet: the model has not written anything here.")
        prompt = draft.before[-1] if again else draft.text if start is None else start
        live = self._reserve(id, prompt, writer)
        try:
            session = self._generator.session()
            context = self._extensions.begin(params, words=session)
            params = context.params
            stream = session.start(prompt, params, label=id.partition("-")[0].capitalize(), context=context)
            live.stream = stream
            if live.stopped.is_set():
                stream.cancel()
            with stream:
                self._drafts.begin(id, prompt, writer, again=again)
                yield from self._grow(id, prompt, stream, live, context)
        finally:
            with self._lock:
                self._live.pop(id, None)

    def growing(self, id: str) -> str | None:
        """The text of a draft while the model is writing into it."""
        live = self._live.get(id)
        return live.text if live else None

    def expect(self, id: str, writer: str = "") -> None:
        """From now on, a stop applies to the next run of this writer (a page)."""
        with self._lock:
            self._expected.pop((id, writer), None)
            self._expected[id, writer] = threading.Event()
            while len(self._expected) > _MOST_EXPECTED:  # of pages that were closed before it began
                self._expected.pop(next(iter(self._expected)))

    def stop(self, id: str) -> None:
        """Stop the reply within one token; its text is kept."""
        with self._lock:
            live = self._live.get(id)
            expected = [event for (draft, _), event in self._expected.items() if draft == id]
        for event in expected:
            event.set()
        if live is not None:
            live.stopped.set()
            if live.stream is not None:
                live.stream.cancel()

    def keep(self) -> None:
        """Save all drafts that are growing."""
        for id, live in tuple(self._live.items()):
            if pieces := tuple(live.pieces):
                try:
                    self._drafts.grow(id, "".join(pieces))
                except UserError as error:
                    log.warning("The generated text could not be saved: %s", error)

    def close(self) -> None:
        """Stop all of them, and wait briefly until they are stored."""
        end = time.monotonic() + _ENDING
        for id in tuple(self._live):
            self.stop(id)
        while self._live and time.monotonic() < end:
            time.sleep(0.02)

    def _reserve(self, id: str, text: str, writer: str) -> _Live:
        with self._lock:
            stopped = self._expected.pop((id, writer), threading.Event())
            if id in self._live:
                raise Conflict("The model is already writing in this text. Stop it, or wait for it to finish.")
            live = self._live[id] = _Live(text, stopped=stopped)
            return live

    def _grow(
        self, id: str, prompt: str, stream: TextStream, live: _Live, context: HookContext
    ) -> Iterator[DraftUpdate]:
        params = context.params
        saved = time.monotonic()
        shown = float("-inf")
        pause = 1 / params.max_updates_second if params.max_updates_second > 0 else 0.0
        pieces = live.pieces = [prompt]
        try:
            for piece in stream:
                pieces.append(piece.text)
                now = time.monotonic()
                if now - saved >= INTERVAL:
                    saved = now
                    self._drafts.grow(id, _joined(pieces))
                if params.stream and now - shown >= pause and piece.text:
                    shown = now
                    live.text = _joined(pieces)
                    yield DraftUpdate(live.text)
        finally:
            stream.close()
            live.pieces = []  # what is stored from here on is complete
            text = prompt + self._extensions.output(_joined(pieces)[len(prompt) :], context)
            try:
                draft = self._drafts.grow(id, text)
            except UserError as error:  # the page still has it, and the next typed character saves again
                log.warning("The generated text could not be saved: %s", error)
                raise
        report = stream.report
        if text == prompt and (why := _EMPTY.get(report.finish)):
            report = replace(report, warnings=[*report.warnings, why])
        yield DraftUpdate(text, draft, report)


def _joined(pieces: list[str]) -> str:
    if len(pieces) > 1:
        pieces[:] = ["".join(pieces)]
    return pieces[0]
