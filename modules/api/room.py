"""How many replies run or wait at the same time, over all clients of the API. A request is one until it asks for more.

Used by the event loop alone, so nothing is locked. This module must not know of HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from errors import TooBusy, TooManyReplies


class Room:
    """Places for `most` replies."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0

    @contextmanager
    def place(self) -> Iterator[Place]:
        """A place for a request, and what it takes beside it, until the block ends. Raises: TooBusy."""
        place = Place(self)
        place.widen(1)
        try:
            yield place
        finally:
            self.taken -= place.count


class Place:
    """What one request holds."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.count = 0

    def widen(self, count: int) -> None:
        """Hold this many places; fewer are never given back. Raises: TooManyReplies, TooBusy."""
        if count > self._room.most:
            raise TooManyReplies(count, self._room.most)
        more = max(0, count - self.count)
        if self._room.taken + more > self._room.most:
            raise TooBusy(self._room.most)
        self._room.taken += more
        self.count += more
