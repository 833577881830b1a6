"""The queue of requests that wait for a place in an engine, oldest first. Any thread may add to it.

It contains jobs, and the engine's requests that had to give up their places. Yielding requests are kept apart: they are
in nobody's way. It must not know what is computed.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

from errors import UserError
from loaders.job import Job


class HasJob(Protocol):
    """Anything that can wait: it has a job."""

    @property
    def job(self) -> Job: ...


T = TypeVar("T", bound=HasJob)


class RequestQueue(Generic[T]):
    """Requests that have not started and those that were put back to wait."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._yielding: deque[T] = deque()
        self._calls: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._changed = threading.Condition()
        self._closed: UserError | None = None

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Add to the end; a yielding request to those apart. Raises: the reason given to `close`."""
        with self._changed:
            if self._closed:
                raise self._closed
            (self._yielding if item.job.request.yields else self._items).append(item)
            self._changed.notify()

    def call_soon(self, do: Callable[[], None]) -> Future[None]:
        """Have something short done between two steps, whatever runs or waits. Raises: the reason given to `close`."""
        done: Future[None] = Future()
        with self._changed:
            if self._closed:
                raise self._closed
            self._calls.append((do, done))
            self._changed.notify()
        return done

    def run_calls(self) -> None:
        """Do what was asked for by `call_soon`; errors go to who asked."""
        while self._calls:  # empty at nearly every step
            do, done = self._calls.popleft()
            try:
                do()
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(None)

    def requeue(self, item: T, *, first: bool) -> None:
        """Put a running request back: as the next one, or at the end."""
        with self._changed:
            if first:
                self._items.appendleft(item)
            else:
                self._items.append(item)

    def requeue_by_age(self, item: T) -> None:
        """Put back a request that left the queue before it started: before all newer ones that have not started
        either.
        """
        with self._changed:
            later = (
                place
                for place, other in enumerate(self._items)
                if not other.job.started and other.job.asked > item.job.asked
            )
            self._items.insert(next(later, len(self._items)), item)

    @property
    def first(self) -> T | None:
        """The next one."""
        with self._changed:
            return self._items[0] if self._items else None

    def take(self) -> T:
        """Take the next one out."""
        with self._changed:
            return self._items.popleft()

    def take_yielding(self) -> T | None:
        """Take the next yielding request out."""
        with self._changed:
            return self._yielding.popleft() if self._yielding else None

    def prefer(self, rank: Callable[[T], int], stop: Callable[[T], bool]) -> None:
        """Move the first of those with the lowest rank to the front; nothing overtakes an entry for which `stop` is
        true.
        """
        with self._changed:
            before = list(itertools.takewhile(lambda item: not stop(item), self._items))
            if before and (best := min(before, key=rank)) is not before[0]:
                self._items.remove(best)
                self._items.appendleft(best)

    def take_before(self, wanted: Callable[[T], bool], stop: Callable[[T], bool]) -> list[T]:
        """Remove all entries that are `wanted` and come before the first for which `stop` is true."""
        with self._changed:
            found = [item for item in itertools.takewhile(lambda item: not stop(item), self._items) if wanted(item)]
            for item in found:
                self._items.remove(item)
        return found

    def take_cancelled(self) -> list[T]:
        """Remove all cancelled requests."""
        with self._changed:
            gone: list[T] = []
            for items in (self._items, self._yielding):
                gone += (left := [item for item in items if item.job.cancelled])
                for item in left:
                    items.remove(item)
        return gone

    def jobs(self) -> list[Job]:
        """All waiting jobs, in order; no yielding ones."""
        with self._changed:
            return [item.job for item in self._items]

    def wait(self, seconds: float | None = None) -> bool:
        """Sleep until there is an entry or a call, or the queue is closed; at most this long. Whether that is so."""
        with self._changed:
            return self._changed.wait_for(
                lambda: bool(self._items or self._yielding or self._calls or self._closed), seconds
            )

    @property
    def closed(self) -> UserError | None:
        """Why nothing can be added any more."""
        return self._closed

    def close(self, why: UserError) -> None:
        """Accept nothing more. Only the first reason counts."""
        with self._changed:
            self._closed = self._closed or why
            self._changed.notify()
