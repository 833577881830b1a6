"""Limits how many replies run or wait at the same time, over all clients of the API. A request counts as one until it
asks for more.

Used by the event loop only, so nothing is locked. This module must not know of HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from modules.web.errors import TooBusy, TooManyReplies


class ReplyLimit:
    """At most `most` replies."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0

    @contextmanager
    def place(self) -> Iterator[ReplySlots]:
        """A slot for a request, and those added to it, until the block ends. Raises: TooBusy."""
        place = ReplySlots(self)
        place.widen(1)
        try:
            yield place
        finally:
            self.taken -= place.count


class ReplySlots:
    """The slots that one request holds."""

    def __init__(self, room: ReplyLimit) -> None:
        self._room = room
        self.count = 0

    def widen(self, count: int) -> None:
        """Hold this many slots; the number never decreases. Raises: TooManyReplies, TooBusy."""
        if count > self._room.most:
            raise TooManyReplies(count, self._room.most)
        more = max(0, count - self.count)
        if self._room.taken + more > self._room.most:
            raise TooBusy(self._room.most)
        self._room.taken += more
        self.count += more
