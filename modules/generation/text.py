"""Converts the bytes of tokens to text: only whole characters, and never part of a stop string.

Pure: it knows nothing of models, threads or time. How the bytes are cut into pieces makes no difference to the text,
which tests check.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable


class TextAssembler:
    """Feed it with `push`, end it with `finish`; everything they return, joined, is the text.

    The text ends before the first position where one of the stop strings begins; of several that begin there, the
    shortest counts. Bytes that are not valid UTF-8 become U+FFFD; an incomplete last character, as at a length limit,
    is omitted.
    """

    def __init__(self, stop: Iterable[str] = ()) -> None:
        self._stop = sorted({string for string in stop if string}, key=lambda string: (len(string), string))
        self._first = frozenset(string[0] for string in self._stop)
        self._longest = len(self._stop[-1]) if self._stop else 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""  # what could still become part of a stop string
        self._finished = False
        self.seen = 0  # complete characters; some may be held back
        self.stopped_by: str | None = None

    def push(self, data: bytes) -> str:
        """The text that is certain after these bytes."""
        if self._finished or self.stopped_by is not None:
            return ""
        return self._release(self._decoder.decode(data), last=False)

    def finish(self) -> str:
        """No more bytes will come: what was held back."""
        if self._finished or self.stopped_by is not None:
            return ""
        self._finished = True
        return self._release("", last=True)

    def _release(self, new: str, *, last: bool) -> str:
        self.seen += len(new)
        text = self._held + new
        if not self._held and self._first.isdisjoint(text):  # the usual case, and everything if nothing stops
            return text
        place, found = self._match(text)
        pending = len(text) if last else self._pending(text)
        if found is not None and place <= pending:
            self._held, self.stopped_by = "", found
            return text[:place]
        # an earlier stop string may still be completed: even a later match has to wait
        self._held = text[pending:]
        return text[:pending]

    def _match(self, text: str) -> tuple[int, str | None]:
        """The first position of a complete stop string, and which one (the shortest there)."""
        place, found = len(text), None
        for string in self._stop:
            at = text.find(string)
            if 0 <= at < place:
                place, found = at, string
        return place, found

    def _pending(self, text: str) -> int:
        """The first position from which the text could be the beginning of a longer stop string."""
        for place in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[place] in self._first:
                rest = text[place:]
                if any(len(string) > len(rest) and string.startswith(rest) for string in self._stop):
                    return place
        return len(text)
