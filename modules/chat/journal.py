"""A reply that is being written, kept in a small file beside its conversation, so that a crash loses a second at most.

Writing it costs what the reply is long, never what the conversation is long; and it happens in a thread of its own,
so that a slow disk does not hold up the stream. The store merges the file when the conversation is opened after a
crash. This module knows nothing of trees.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from pathlib import Path

from loaders import plain_json
from modules.config.atomic import write_json

log = logging.getLogger(__name__)

INTERVAL = 0.5  # seconds between two writes: with the time that a write takes, well within the second


class Journal:
    """The growing text of one message. `note` as often as one likes; `close` before the conversation is saved."""

    def __init__(self, path: Path, message_id: str, *, interval: float = INTERVAL) -> None:
        self._path = path
        self._message_id = message_id
        self._interval = interval
        self._text = ""
        self._written = ""
        self._closing = threading.Event()
        self._writing = threading.RLock()  # what ends a reply in the middle of a write may write, too
        self._thread = threading.Thread(target=self._loop, name="journal", daemon=True)
        self._thread.start()

    def note(self, text: str) -> None:
        """This is the text so far."""
        self._text = text

    def keep(self) -> None:
        """Write now what has come so far. From any thread; after `close` it does nothing."""
        if not self._closing.is_set():
            self.flush()

    def close(self) -> None:
        """Write no more. The file stays until the conversation has been saved."""
        self._closing.set()
        if not self.is_running_here:
            self._thread.join()

    @property
    def is_running_here(self) -> bool:
        """Whether this is its own thread, which cannot wait for itself."""
        return threading.current_thread() is self._thread

    def flush(self) -> None:
        """Write what is not written yet."""
        with self._writing:
            text = self._text
            if text == self._written:
                return
            try:
                write_json(self._path, {"message": self._message_id, "text": text})
                self._written = text
            except OSError as error:  # the conversation itself is saved at the end, and that failure is told
                log.warning("The growing reply cannot be stored in %s: %s", self._path, error)

    def _loop(self) -> None:
        while not self._closing.wait(self._interval):
            self.flush()


def journal_path(conversation: Path) -> Path:
    """Where the growing reply of a conversation's file is kept."""
    return conversation.with_name(f".{conversation.stem}.growing.json")


def read_journal(path: Path) -> tuple[str, str] | None:
    """The message's id and its text as far as it came; None when there is nothing (or nothing that can be read)."""
    with contextlib.suppress(OSError, ValueError):
        value = plain_json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict) and isinstance(value.get("message"), str) and isinstance(value.get("text"), str):
            return value["message"], value["text"]
    return None
