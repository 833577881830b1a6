"""Converts the bytes of tokens to text: only whole characters, and never part of a stop string.

Pure: it knows nothing of models, threads or time. How the bytes are cut into pieces makes no difference to the text,
which tests check.
"""

from __future__ import annotations

import bisect
import codecs
from collections.abc import Iterable, Sequence

from errors import InvalidInput

#: Characters of the longest stop string: what could become one is held back and searched at each token.
_LONGEST = 1000


def check_stop_strings(stop: Sequence[str]) -> Sequence[str]:
    """The stop strings unchanged. Raises: InvalidInput."""
    for string in stop:
        if len(string) > _LONGEST:
            raise InvalidInput(
                f"A stop string may have {_LONGEST:,} characters; {string[:40]!r}... has {len(string):,}."
            )
    return stop


class TextAssembler:
    """Feed it with `push`, end it with `finish`; everything they return, joined, is the text.

    The text ends before the first position where one of the stop strings begins; of several that begin there, the
    shortest counts. Bytes that are not valid UTF-8 become U+FFFD; an incomplete last character, as at a length limit,
    is omitted.
    """

    def __init__(self, stop: Iterable[str] = ()) -> None:
        self._stop: list[str] = []  # sorted, for a search that costs little if there are very many
        for string in sorted({string for string in stop if string}):
            if not (self._stop and string.startswith(self._stop[-1])):  # where it begins, the shorter one counts
                self._stop.append(string)
        self._first = frozenset(string[0] for string in self._stop)
        self._longest = max(map(len, self._stop), default=0)
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
        for place, char in enumerate(text):
            if char in self._first:
                rest = text[place : place + self._longest]
                # none begins with another, so one with which `rest` begins comes right before it
                before = bisect.bisect_right(self._stop, rest) - 1
                if before >= 0 and rest.startswith(self._stop[before]):
                    return place, self._stop[before]
        return len(text), None

    def _pending(self, text: str) -> int:
        """The first position from which the text could be the beginning of a longer stop string."""
        for place in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[place] in self._first:
                rest = text[place:]
                after = bisect.bisect_right(self._stop, rest)  # what begins with `rest` comes right after it
                if after < len(self._stop) and self._stop[after].startswith(rest):
                    return place
        return len(text)
