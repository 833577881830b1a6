"""The line before the engine: who waits for a sequence, first come first. Any thread may join it.

Runs that had to give their place to others stand in it too. Knows nothing of llama.cpp.
"""

from __future__ import annotations

import threading
from collections import deque

from errors import UserError
from loaders.llamacpp.job import Job
from loaders.llamacpp.run import Run


class Line:
    """Requests that have not begun (Job) and those that were sent back to wait (Run)."""

    def __init__(self) -> None:
        self._items: deque[Job | Run] = deque()
        self._changed = threading.Condition()
        self._closed: UserError | None = None

    def __len__(self) -> int:
        return len(self._items)

    def join(self, job: Job) -> None:
        """Stand at the end. Raises: what `close` was given."""
        with self._changed:
            if self._closed:
                raise self._closed
            self._items.append(job)
            self._changed.notify()

    def send_back(self, run: Run, *, first: bool) -> None:
        """A run waits again: as the next one, or behind all others."""
        with self._changed:
            if first:
                self._items.appendleft(run)
            else:
                self._items.append(run)

    @property
    def first(self) -> Job | Run | None:
        """Who is next."""
        with self._changed:
            return self._items[0] if self._items else None

    def take(self) -> Job | Run:
        """Let the first one go in."""
        with self._changed:
            return self._items.popleft()

    def take_cancelled(self) -> list[Job | Run]:
        """Let out all who do not want to wait any more."""
        with self._changed:
            gone = [item for item in self._items if job_of(item).cancelled]
            for item in gone:
                self._items.remove(item)
        return gone

    def jobs(self) -> list[Job]:
        """All who wait, in their order."""
        with self._changed:
            return [job_of(item) for item in self._items]

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


def job_of(item: Job | Run) -> Job:
    """The request itself."""
    return item.job if isinstance(item, Run) else item
