"""Reads a reply in an event loop: a thread only sends it, and ends when its answer begins.

It must not know what is read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from loaders.pushed_stream import Loop, Timer
from loaders.remote.body import Body
from loaders.remote.sockets import Stream


class LoopRead(Protocol):
    """What is read: `loaders.remote.stream.ServerStream`."""

    @property
    def waiting(self) -> bool: ...

    @property
    def running(self) -> bool: ...

    @property
    def ending(self) -> bool: ...

    @property
    def body(self) -> Body | None: ...

    def send(self) -> None: ...

    def receive_now(self) -> None: ...

    def check_time(self) -> float: ...

    def give_up(self) -> None: ...


class LoopReader:
    """Everything but `send` and `is_elsewhere` belongs to the loop's thread."""

    def __init__(self, stream: LoopRead, loop: Loop, wake: Callable[[], None]) -> None:
        self._stream = stream
        self._loop = loop
        self._wake = wake
        self._watched: tuple[Stream, int] | None = None
        self._timer: Timer | None = None
        self._ending = False

    def send(self) -> None:
        """Send it to the next address, in a thread."""
        threading.Thread(target=self._send, name="sending", daemon=True).start()

    def is_elsewhere(self, function: Callable[[], None]) -> bool:
        """Whether this is not the loop's thread; the function is called there then."""
        if self._loop.is_here():
            return False
        self._loop.call(function)
        return True

    def look(self) -> None:
        """Wake whoever reads the stream soon: it has ended without an arrival."""
        self._loop.call(self._after)

    def leave(self) -> None:
        """Its connection will not be its any more."""
        if self._timer:
            self._timer.cancel()
        if self._watched:
            connection, number = self._watched
            self._loop.unwatch(number)
            connection.let_go()
        self._timer = self._watched = None

    def _send(self) -> None:
        self._stream.send()
        self._loop.call(self._begin)

    def _begin(self) -> None:
        if (body := self._stream.body) is None:
            self._after()
            return
        try:
            number = body.stream.hold()
        except OSError:
            body.stream.let_go()
            self._stream.receive_now()  # tells why it is closed
            self._after()
        else:
            self._watched = body.stream, number
            self._loop.watch(number, self._read)
            self._check_time()
            self._read()  # what came with the head

    def _read(self) -> None:
        stream = self._stream
        if self._watched:
            stream.receive_now()
            if stream.ending and not self._ending:  # what follows the reply must come soon
                self._ending = True
                self._check_time()
            self._after()

    def _check_time(self) -> None:
        if self._timer:
            self._timer.cancel()
        left = self._stream.check_time()
        self._timer = self._loop.later(left, self._time_over) if left else None

    def _time_over(self) -> None:
        self._check_time()
        self._after()

    def _after(self) -> None:
        stream = self._stream
        if not stream.running:
            stream.give_up()
        elif not self._watched:
            self.send()  # to another address
        elif self._watched[0].more:
            self._loop.call(self._read)
        if stream.waiting:
            self._wake()
        if not stream.running:
            self._wake = _nobody  # which may hold the stream


def _nobody() -> None:
    """It has been woken for the end."""
