"""Saves a reply in progress to a small file beside its conversation, so that a crash loses at most a second.

The cost of a write depends on the reply's length, not the conversation's; it happens in its own thread, so that a slow
disk does not delay the stream. The store merges the file when the conversation is opened after a crash. This module
knows nothing of trees.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from loaders import safe_json
from modules.config.atomic import write_json

log = logging.getLogger(__name__)

INTERVAL = 0.5  # seconds between two writes: with the duration of a write, well within the second


class Journal:
    """The growing text of one message. Call `note` any number of times, and `close` before the conversation is
    saved.
    """

    def __init__(self, path: Path | None, message_id: str, *, interval: float = INTERVAL) -> None:
        """`path`: None for a reply that is not stored, of which nothing is written."""
        self._path = path
        self._message_id = message_id
        self._interval = interval
        self._read: Callable[[], str] = str
        self._written = ""
        self._closing = threading.Event()
        self._writing = threading.RLock()  # reentrant: what ends a reply during a write may write, too
        self._thread = threading.Thread(target=self._loop, name="journal", daemon=True)
        self._thread.start()

    def note(self, read: Callable[[], str]) -> None:
        """Returns the text so far; called in any thread."""
        self._read = read

    def keep(self) -> None:
        """Write the text so far now. From any thread; after `close` it does nothing."""
        if not self._closing.is_set():
            self.flush()

    def close(self) -> None:
        """Stop writing. The file stays until the conversation has been saved."""
        self._closing.set()
        if not self.is_running_here:
            self._thread.join()

    @property
    def is_running_here(self) -> bool:
        """Whether this is its own thread, which cannot wait for itself."""
        return threading.current_thread() is self._thread

    def flush(self) -> None:
        """Write what has not been written yet."""
        with self._writing:
            text = self._read()
            if self._path is None or text == self._written:
                return
            try:
                write_json(self._path, {"message": self._message_id, "text": text})
                self._written = text
            except OSError as error:  # the conversation itself is saved at the end, and that failure is reported
                log.warning("Cannot write the unfinished reply to %s: %s", self._path, error)

    def _loop(self) -> None:
        while not self._closing.wait(self._interval):
            self.flush()


def journal_path(conversation: Path) -> Path:
    """The journal's path for a conversation's file."""
    return conversation.with_name(f".{conversation.stem}.growing.json")


def read_journal(path: Path) -> tuple[str, str] | None:
    """The message's id and its text so far; None if there is nothing readable."""
    with contextlib.suppress(OSError, ValueError):
        value = safe_json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict) and isinstance(value.get("message"), str) and isinstance(value.get("text"), str):
            return value["message"], value["text"]
    return None
