"""The model goes on with a draft: the text grows in place and on disk, and can be stopped, taken back, tried again.

It knows drafts and the way from a prompt to text; it must not know of chats, of templates or of pages.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from errors import Conflict, NothingToDo, UserError
from loaders.base import Report
from loaders.params import SamplingParams
from modules.extensions import Extensions, HookContext
from modules.generation.generator import Generator
from modules.generation.stream import TextStream
from modules.prompts.drafts import Draft, Drafts

log = logging.getLogger(__name__)

#: Seconds between two times that a growing text is saved: no more than this is lost in a crash.
INTERVAL = 0.5
_MOST_EXPECTED = 256
_ENDING = 1.0  # seconds for texts to be stored at the program's end


@dataclass(frozen=True, slots=True)
class Growth:
    """The text so far. The last one (`draft` is there) tells how it went."""

    text: str
    draft: Draft | None = None
    report: Report | None = None


@dataclass
class _Live:
    text: str
    pieces: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    stream: TextStream | None = None


class Writing:
    """Lets the model write into drafts, one reply at a time into each. May be used from several threads."""

    def __init__(self, generator: Generator, drafts: Drafts, extensions: Extensions | None = None) -> None:
        self._generator = generator
        self._extensions = extensions or Extensions()
        self._drafts = drafts
        self._lock = threading.RLock()  # a generator that is let go of ends anywhere: also inside
        self._live: dict[str, _Live] = {}
        #: What is about to begin, by draft and writer; set where it was stopped before.
        self._expected: dict[tuple[str, str], threading.Event] = {}

    def go_on(
        self, id: str, params: SamplingParams, *, start: str | None = None, writer: str = "", again: bool = False
    ) -> Iterator[Growth]:
        """Write on from the end of the draft; from `start`, which then stands in it; or, `again`, from before the
        last time. Nothing is changed before the engine has taken the prompt.

        Raises, at the first step: UserError. Closing the iterator ends the reply and keeps what is there.
        """
        draft = self._drafts.open(id)
        if again and not draft.before:
            raise NothingToDo("The model has not written here yet, so there is nothing to write again.")
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
        """The text of a draft that the model is writing in right now."""
        live = self._live.get(id)
        return live.text if live else None

    def expect(self, id: str, writer: str = "") -> None:
        """From here on a stop counts for what this writer, a page, is about to have written."""
        with self._lock:
            self._expected.pop((id, writer), None)
            self._expected[id, writer] = threading.Event()
            while len(self._expected) > _MOST_EXPECTED:  # of pages that were closed before it began
                self._expected.pop(next(iter(self._expected)))

    def stop(self, id: str) -> None:
        """End the reply within one token; what is there stays."""
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
        """Write down all drafts that are growing, as far as they have come."""
        for id, live in tuple(self._live.items()):
            if pieces := tuple(live.pieces):
                try:
                    self._drafts.grow(id, "".join(pieces))
                except UserError as error:
                    log.warning("The text that the model wrote could not be saved: %s", error)

    def close(self) -> None:
        """End all of them, and wait a moment until they are stored."""
        end = time.monotonic() + _ENDING
        for id in tuple(self._live):
            self.stop(id)
        while self._live and time.monotonic() < end:
            time.sleep(0.02)

    def _reserve(self, id: str, text: str, writer: str) -> _Live:
        with self._lock:
            stopped = self._expected.pop((id, writer), threading.Event())
            if id in self._live:
                raise Conflict("The model is writing in this text already. Stop it first, or wait until it is done.")
            live = self._live[id] = _Live(text, stopped=stopped)
            return live

    def _grow(self, id: str, prompt: str, stream: TextStream, live: _Live, context: HookContext) -> Iterator[Growth]:
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
                    yield Growth(live.text)
        finally:
            stream.close()
            live.pieces = []  # what is stored from here on is whole
            text = prompt + self._extensions.output(_joined(pieces)[len(prompt) :], context)
            try:
                draft = self._drafts.grow(id, text)
            except UserError as error:  # the page still has it, and the next word that is typed tries again
                log.warning("The text that the model wrote could not be saved: %s", error)
                raise
        yield Growth(text, draft, stream.report)


def _joined(pieces: list[str]) -> str:
    if len(pieces) > 1:
        pieces[:] = ["".join(pieces)]
    return pieces[0]
