"""Chats that open warm: their states are written to disk while nothing runs, and read before a request is queued.

Reading and writing happen in threads of their own; the engine's thread only copies in memory. It must not know files.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from errors import UserError
from loaders.job import Job, LogitsRequest, ScoreRequest
from loaders.labels import is_of
from loaders.llamacpp.engine.checkpoints import Checkpoint
from loaders.llamacpp.engine.disk_cache import DiskCache
from loaders.llamacpp.engine.saved_state import SavedState
from loaders.llamacpp.engine.sequence_pool import SequencePool

#: A state with fewer tokens is not worth a file; nor is one read if memory lacks fewer of its tokens.
WORTH_A_FILE = 256
#: How many states are written at most when the model is unloaded, so that it does not take long.
_AT_THE_END = 2


class WarmStarts:
    """Between one engine's sequences and the disk."""

    def __init__(self, disk: DiskCache, sequences: SequencePool, most: int, keep_all: bool = False) -> None:
        """States of more than `most` bytes are not read. `keep_all`: also requests that are not lasting."""
        self._disk = disk
        self._sequences = sequences
        self._most = most
        self._keep_all = keep_all
        #: By the request's id, with the disk's key: what it was read for may have changed since.
        self._read: dict[int, tuple[str, SavedState, Sequence[Checkpoint]]] = {}
        self._open = True
        self.saving = False  # whether states are being written because the model is being closed

    # --- any thread ---

    def read_for(self, job: Job, submit: Callable[[Job], None]) -> bool:
        """Whether the disk has more of its prompt than memory: then it is read in another thread, and the job is
        submitted after that.
        """
        if isinstance(job, ScoreRequest | LogitsRequest) or not job.request.ids:
            return False
        ids = tuple(job.request.ids)
        on_disk = self._disk.longest(ids, self._most)
        if on_disk < WORTH_A_FILE or on_disk - self._sequences.known(ids) < WORTH_A_FILE:
            return False

        def read() -> None:
            try:
                key = self._disk.key
                if not job.cancelled and (found := self._disk.load(ids, self._most)) and not job.cancelled:
                    self._read[job.request.id] = (key, *found)
                submit(job)
            except BaseException as error:
                self._read.pop(job.request.id, None)
                job.end(error)
                if not isinstance(error, UserError):
                    raise

        threading.Thread(target=read, name="reading a chat's state", daemon=True).start()
        return True

    @property
    def labels(self) -> frozenset[str]:
        """Whose states are on disk."""
        return self._disk.labels

    # --- the engine's thread ---

    def add_for(self, job: Job) -> None:
        """Let this request find what was read for it."""
        if found := self._read.pop(job.request.id, None):
            key, state, checkpoints = found
            if key == self._disk.key:
                self._sequences.add(state, checkpoints)
        elif len(self._read) > 64:  # of requests that were cancelled in the queue
            self._read.clear()

    def end(self, job: Job) -> None:
        """This request has ended: what was read for it is dropped, if it did not come so far."""
        self._read.pop(job.request.id, None)

    def lasts(self, job: Job) -> bool:
        """Whether the state that this request leaves is to be kept on disk."""
        wanted = (self._keep_all or job.request.lasting) and not job.request.yields  # nobody has sent that text
        return wanted and not isinstance(job, ScoreRequest | LogitsRequest)

    def forget(self, label: str) -> None:
        """Delete what was written or is to be written for this label; its states in memory are gone."""
        for request, (_, state, _) in list(self._read.items()):
            if is_of(state.label, label):
                self._read.pop(request, None)
        self._disk.forget(label)

    def keep_next(self) -> bool:
        """Copy a state that is not on disk yet, and have it written; False if there is none."""
        found = self._sequences.unkept(self._disk.knows, WORTH_A_FILE)
        if found:
            self._disk.put(*found)
        return found is not None

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
