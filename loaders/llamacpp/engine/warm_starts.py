"""Chats that open warm: their states are written to disk while nothing runs, and read before a request is queued.

Reading and writing happen in threads of their own; the engine's thread only copies in memory. It must not know files.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from errors import UserError
from loaders.job import EngineTask, Job, LogitsRequest, ScoreRequest
from loaders.labels import is_of
from loaders.llamacpp.engine.checkpoints import Checkpoint
from loaders.llamacpp.engine.disk_cache import DiskCache, stored_size
from loaders.llamacpp.engine.saved_state import SavedState
from loaders.llamacpp.engine.sequence_pool import SequencePool

log = logging.getLogger(__name__)

#: A state with fewer tokens is not worth a file; nor is one read if memory lacks fewer of its tokens.
WORTH_A_FILE = 256
#: How many states are written at most when the model is unloaded, so that it does not take long.
_AT_THE_END = 2


@dataclass(slots=True, eq=False)
class _Read:
    """A file that is being read, or has been, for the requests that need it: all share one copy, and it goes with the
    last of them. `jobs` are submitted when it has been read.
    """

    key: str
    path: Path
    jobs: list[Job] = field(default_factory=list)
    found: tuple[SavedState, Sequence[Checkpoint]] | None = None
    forgotten: bool = False


class WarmStarts:
    """Between one engine's sequences and the disk."""

    def __init__(
        self,
        disk: DiskCache,
        sequences: SequencePool,
        submit: Callable[[Job], None],
        most: int,
        *,
        keep_all: bool = False,
    ) -> None:
        """`submit` puts a job into the engine's queue. States of more than `most` bytes are neither read nor written.
        `keep_all`: also requests that are not lasting.
        """
        self._submit = submit
        self._disk = disk
        self._sequences = sequences
        self._most = most
        self._keep_all = keep_all
        self._guard = threading.RLock()
        self._reads: dict[tuple[str, Path], _Read] = {}  # by the disk's key, which is that of the adapters, and file
        self._users: dict[int, _Read] = {}  # by the request's id
        self._reading = 0  # reads that have not ended
        self._line: deque[Job] = deque()  # a task that waits for reads, and what came after it
        self._too_large: int | None = None
        self._open = True
        self.saving = False  # whether states are being written because the model is being closed

    # --- any thread ---

    def enter(self, job: Job) -> None:
        """Submit a job: at once, or if the disk has more of its prompt than memory, when that has been read.

        Tasks keep their place: one waits for the states of earlier jobs, and later jobs wait for it. Raises: as
        `submit`, if it is called at once.
        """
        with self._guard:
            if self._line or (self._reading and isinstance(job, EngineTask)):
                self._line.append(job)
            else:
                self._begin(job)

    def line(self) -> list[Job]:
        """The jobs that wait for reads of others: a task, and what came after it."""
        with self._guard:
            return list(self._line)

    def _begin(self, job: Job) -> None:
        key, path = self._disk.key, self._path_for(job)
        if path is None:
            self._submit(job)
            return
        read = self._reads.get((key, path))
        if read is None:
            read = self._reads[key, path] = _Read(key, path)
            self._reading += 1
            ids = tuple(job.request.ids)
            threading.Thread(target=self._load, args=(read, ids), name="reading a chat's state", daemon=True).start()
        self._users[job.request.id] = read
        if read.found:
            self._submit(job)
        else:
            read.jobs.append(job)

    def _path_for(self, job: Job) -> Path | None:
        """The file that has more of its prompt than memory, if it is worth reading."""
        if isinstance(job, ScoreRequest | LogitsRequest) or not job.request.ids:
            return None
        ids = tuple(job.request.ids)
        path, length = self._disk.find(ids, self._most)
        return path if length >= WORTH_A_FILE and length - self._sequences.known(ids) >= WORTH_A_FILE else None

    def _load(self, read: _Read, ids: tuple[int, ...]) -> None:
        found = None
        try:
            with self._guard:
                wanted = not all(job.cancelled for job in read.jobs)
            if wanted:
                found = self._disk.load(ids, self._most)
        except Exception:
            log.exception("A chat's state could not be read from disk")
        with self._guard:
            self._reading -= 1
            jobs, read.jobs = read.jobs, []
            if found and not read.forgotten:
                read.found = found
            for job in jobs:
                if not read.found or job.cancelled:
                    self.end(job)
                self._pass_on(job, self._submit)
            while self._line and not (self._reading and isinstance(self._line[0], EngineTask)):
                self._pass_on(self._line.popleft(), self._begin)

    def _pass_on(self, job: Job, how: Callable[[Job], None]) -> None:
        """For a job whose sender no longer waits for errors."""
        try:
            how(job)
        except Exception as error:
            self.end(job)
            job.end(error)
            if not isinstance(error, UserError):
                log.exception("A request could not be queued")

    def end(self, job: Job) -> None:
        """This request needs what was read for it no longer: it has ended, or been given it."""
        with self._guard:
            read = self._users.pop(job.request.id, None)
            if read and read not in self._users.values():
                self._reads.pop((read.key, read.path), None)

    @property
    def labels(self) -> frozenset[str]:
        """Whose states are on disk."""
        return self._disk.labels

    # --- the engine's thread ---

    def add_for(self, job: Job) -> None:
        """Let this request find what was read for it, unless other adapters are applied now."""
        read = self._users.get(job.request.id)
        if read and read.found and read.key == self._disk.key:
            self._sequences.add(*read.found)
        self.end(job)

    def lasts(self, job: Job) -> bool:
        """Whether the state that this request leaves is to be kept on disk."""
        wanted = (self._keep_all or job.request.lasting) and not job.request.yields  # nobody has sent that text
        return wanted and not isinstance(job, ScoreRequest | LogitsRequest)

    def forget(self, label: str) -> None:
        """Delete what was written or is to be written for this label; its states in memory are gone."""
        with self._guard:
            for read in self._reads.values():
                if read.found is None:  # whose it is is not known yet
                    read.forgotten = True
                elif is_of(read.found[0].label, label):
                    read.found = None
                    read.forgotten = True
            self._reads = {place: read for place, read in self._reads.items() if not read.forgotten}
        self._disk.forget(label)

    def keep_next(self) -> bool:
        """Copy a state that is not on disk yet, and have it written; False if there is none."""
        found = self._sequences.unkept(self._disk.knows, WORTH_A_FILE)
        if found:
            size = stored_size(*found)
            if size <= self._most:
                self._disk.put(*found)
            else:
                self._disk.skip(found[0])
                self._say_too_large(size)
        return found is not None

    def _say_too_large(self, size: int) -> None:
        """Once, and again if a much larger one comes."""
        if self._too_large is None or size > 2 * self._too_large:
            self._too_large = size
            log.warning(
                "A chat's state of %.0f MiB is not written to disk, because it could not be read again: cache_capacity "
                "is %.0f MiB. Raise it to keep such chats.",
                size / 2**20,
                self._most / 2**20,
            )

    def close(self, *, failed: bool) -> None:
        """The engine's thread has ended: write the states of the last chats, unless it has failed, and wait."""
        if not self._open:
            return
        self._open, self.saving = False, True
        try:
            for _ in range(0 if failed else _AT_THE_END):
                if not self.keep_next():
                    break
            self._disk.close()
        finally:
            self.saving = False
