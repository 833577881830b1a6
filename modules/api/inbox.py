"""The bodies of requests that are on their way: gathered whole, before a request counts as one.

Whoever sends half a body holds no place among the replies. What all of them together may take is bounded: where it is
too much, the largest gives way, so that many large halves cannot keep a small request out.
"""

from __future__ import annotations

from errors import BodiesTooLarge, UserError
from modules.web.bodies import Arriving, Pace
from modules.web.guard import Message, Receive

#: How many bodies of the largest size may be on their way at the same time.
_LARGEST_AT_ONCE = 8


class Inbox:
    """For one server; used by its event loop alone. `most` is the size of one body, in bytes."""

    def __init__(self, most: int, pace: Pace | None = None, room: int | None = None) -> None:
        self._most = most
        self._pace = pace or Pace()
        self._room = room if room is not None else most * _LARGEST_AT_ONCE
        self._arriving: dict[int, Letter] = {}

    async def gather(self, receive: Receive, too_large: UserError) -> Receive | None:
        """A `receive` that has the whole body at once; None when the client has gone.

        Raises: BodyTooSlow, TooLarge, BodiesTooLarge.
        """
        arriving = Arriving(receive, self._most, self._pace, lambda: too_large)
        letter = Letter()
        self._arriving[id(letter)] = letter
        try:
            while True:
                message = await arriving()
                if message["type"] != "http.request":
                    return None
                if letter.given_up:
                    raise BodiesTooLarge
                letter.body += message.get("body", b"")
                if not message.get("more_body", False):
                    return _whole(bytes(letter.body), receive)
                self._make_room(letter)
        finally:
            del self._arriving[id(letter)]

    def _make_room(self, newest: Letter) -> None:
        while sum(len(each.body) for each in self._arriving.values()) > self._room:
            largest = max(self._arriving.values(), key=lambda each: len(each.body))
            largest.body.clear()
            largest.given_up = True  # said when its next piece comes, or its time is over
            if largest is newest:
                raise BodiesTooLarge


class Letter:
    """A body as far as it has come."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.given_up = False


def _whole(body: bytes, receive: Receive) -> Receive:
    read = False

    async def once() -> Message:
        nonlocal read
        if read:
            return await receive()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once
