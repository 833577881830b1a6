"""Receives request bodies completely before their requests count as running.

A client that sends half a body occupies no reply slot. The total memory of all bodies is limited: if it is exceeded,
the largest is rejected, so that many large unfinished bodies cannot block a small request.
"""

from __future__ import annotations

from errors import UserError
from modules.web.errors import BodiesTooLarge
from modules.web.origin_middleware import Message, Receive
from modules.web.request_bodies import BodyPace, BodyReceiver

#: How many bodies of the largest size may be received at the same time.
_LARGEST_AT_ONCE = 8


class BodyCollector:
    """For one server; used by its event loop only. `most` is the size of one body in bytes."""

    def __init__(self, most: int, pace: BodyPace | None = None, room: int | None = None) -> None:
        self._most = most
        self._pace = pace or BodyPace()
        self._room = room if room is not None else most * _LARGEST_AT_ONCE
        self._arriving: dict[int, PartialBody] = {}

    async def gather(self, receive: Receive, too_large: UserError) -> Receive | None:
        """A `receive` that returns the whole body at once; None if the client has disconnected.

        Raises: BodyTooSlow, TooLarge, BodiesTooLarge.
        """
        arriving = BodyReceiver(receive, self._most, self._pace, lambda: too_large)
        letter = PartialBody()
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

    def _make_room(self, newest: PartialBody) -> None:
        while sum(len(each.body) for each in self._arriving.values()) > self._room:
            largest = max(self._arriving.values(), key=lambda each: len(each.body))
            largest.body.clear()
            largest.given_up = True  # raised when its next chunk arrives or its time is over
            if largest is newest:
                raise BodiesTooLarge


class PartialBody:
    """The received part of a body."""

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
