"""The line before an engine: who waits for a place, first come first. Any thread may join it.

What stands in it are jobs, or what an engine has made of one that had to give its place to others. It must not know
what is computed.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from errors import UserError
from loaders.job import Job


class Waiting(Protocol):
    """What can stand in the line: it knows its job."""

    @property
    def job(self) -> Job: ...


T = TypeVar("T", bound=Waiting)


class Line(Generic[T]):
    """Requests that have not begun and those that were sent back to wait."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed: UserError | None = None

    def __len__(self) -> int:
        return len(self._items)

    def join(self, item: T) -> None:
        """Stand at the end. Raises: what `close` was given."""
        with self._changed:
            if self._closed:
                raise self._closed
            self._items.append(item)
            self._changed.notify()

    def send_back(self, item: T, *, first: bool) -> None:
        """One who ran waits again: as the next one, or behind all others."""
        with self._changed:
            if first:
                self._items.appendleft(item)
            else:
                self._items.append(item)

    @property
    def first(self) -> T | None:
        """Who is next."""
        with self._changed:
            return self._items[0] if self._items else None

    def take(self) -> T:
        """Let the first one go in."""
        with self._changed:
            return self._items.popleft()

    def prefer(self, rank: Callable[[T], int], stop: Callable[[T], bool]) -> None:
        """Let the first of those with the lowest rank be the next one; nobody passes one for whom `stop` is true."""
        with self._changed:
            before = list(itertools.takewhile(lambda item: not stop(item), self._items))
            if before and (best := min(before, key=rank)) is not before[0]:
                self._items.remove(best)
                self._items.appendleft(best)

    def take_before(self, wanted: Callable[[T], bool], stop: Callable[[T], bool]) -> list[T]:
        """Let out all who are `wanted` and stand before the first for whom `stop` is true."""
        with self._changed:
            found = [item for item in itertools.takewhile(lambda item: not stop(item), self._items) if wanted(item)]
            for item in found:
                self._items.remove(item)
        return found

    def take_cancelled(self) -> list[T]:
        """Let out all who do not want to wait any more."""
        with self._changed:
            gone = [item for item in self._items if item.job.cancelled]
            for item in gone:
                self._items.remove(item)
        return gone

    def jobs(self) -> list[Job]:
        """All who wait, in their order."""
        with self._changed:
            return [item.job for item in self._items]

    def wait(self) -> None:
        """Sleep until somebody stands here, or it is closed."""
        with self._changed:
            while not (self._items or self._closed):
                self._changed.wait()

    @property
    def closed(self) -> UserError | None:
        """Why nobody may join any more."""
        return self._closed

    def close(self, why: UserError) -> None:
        """Let nobody in any more. Only the first reason counts."""
        with self._changed:
            self._closed = self._closed or why
            self._changed.notify()
