"""A stream whose tokens are announced by whoever brings them, so that its reader needs no thread that waits.

Where tokens arrive from, and who reads them, does not matter here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from loaders.base import TokenStream


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None: ...


class Loop(Protocol):
    """An event loop. What it calls must be quick, and must not raise."""

    #: Whether it can watch sockets.
    watches: bool

    def is_here(self) -> bool:
        """Whether this is its thread."""
        ...

    def call(self, function: Callable[[], None]) -> None:
        """Run it soon, one after the other. From any thread; all else is for its own."""
        ...

    def watch(self, descriptor: int, readable: Callable[[], None]) -> None:
        """Call this whenever there is something to read."""
        ...

    def unwatch(self, descriptor: int) -> None:
        """No longer; before it is closed."""
        ...

    def later(self, seconds: float, function: Callable[[], None]) -> Timer:
        """Run it then."""
        ...


@runtime_checkable
class PushedStream(TokenStream, Protocol):
    """A TokenStream that announces its tokens."""

    @property
    def waiting(self) -> bool:
        """Whether `next` returns at once."""
        ...

    def listen(self, loop: Loop | None, wake: Callable[[], None]) -> bool:
        """Call this after each arrival, also for what is here already: in the thread that brings the tokens, which is
        the loop's for those that arrive by sockets. False, and no call, if somebody must wait for each token.
        """
        ...
