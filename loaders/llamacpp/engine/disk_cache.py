"""States of chats on disk, so that a chat need not be processed again after a restart or a change of models.

One file a state: a header with what it belongs to, the token ids, the state, and a checksum of all of it. A file serves
only the same model file, context, adapters and llama.cpp, all of which are in its key. Files are written by a thread of
their own, atomically; the least recently used ones are deleted. May be used from any thread; it must not know
llama.cpp, requests or chats (a label is just a text).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import struct
import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import psutil

from loaders.labels import is_of, owner_of
from loaders.llamacpp.engine.checkpoints import Checkpoint
from loaders.llamacpp.engine.saved_state import SavedState
from loaders.prefix import common_prefix

log = logging.getLogger(__name__)

#: Another folder: for tests, and for read-only installations.
VARIABLE = "TEXTGEN_KV_DISK"
_USUAL = Path(__file__).resolve().parents[3] / "cache" / "kv"
_MAGIC = b"KVSTATE1"
_SUFFIX, _TEMPORARY = ".kv", ".tmp"
_LARGEST_HEADER = 2**16
#: An unfinished file that is older than this was left by a program that was killed, in seconds.
_LEFT = 3600


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    ids: tuple[int, ...]
    label: str
    size: int


@dataclass(slots=True, eq=False)
class _Waiting:
    """A state that is to be written, unless it is forgotten before."""

    key: str
    state: SavedState
    checkpoints: Sequence[Checkpoint]
    forgotten: bool = False


class DiskCache:
    """The states of one model, in a folder that all models share; `capacity` is the folder's, in bytes."""

    def __init__(self, capacity: int, identity: str, folder: Path | None = None) -> None:
        """`identity` changes with everything that a state depends on, except adapters (`select`) and token ids."""
        self._folder = folder or usual_folder()
        self._capacity = capacity
        self._identity = identity
        self._key = identity
        self._guard = threading.Lock()
        self._entries: list[_Entry] = []
        self._written: set[tuple[int, ...]] = set()  # also what is waiting to be written, or could not be
        self._waiting: list[_Waiting] = []  # also the one that is being written
        self._queue: SimpleQueue[_Waiting | _Entry | None] = SimpleQueue()  # to write, to delete, or the end
        self._thread: threading.Thread | None = None  # from the first state on that is to be written
        _remove_leftovers(self._folder)
        self.select(())

    def select(self, adapters: Sequence[object]) -> None:
        """From now on, states are those with these adapters."""
        key = hashlib.blake2b(f"{self._identity} {tuple(adapters)!r}".encode(), digest_size=12).hexdigest()
        entries = [entry for path in self._paths() if (entry := _read_entry(path, key))]
        with self._guard:
            self._key, self._entries = key, entries
            self._written = {entry.ids for entry in entries}

    @property
    def key(self) -> str:
        """Changes with all that states depend on."""
        return self._key

    @property
    def labels(self) -> frozenset[str]:
        """The labels of the states that are on disk."""
        with self._guard:
            return frozenset(entry.label for entry in self._entries)

    def knows(self, ids: tuple[int, ...]) -> bool:
        """Whether exactly this state is on disk, on its way there, or cannot be written."""
        with self._guard:
            return ids in self._written

    def put(self, state: SavedState, checkpoints: Sequence[Checkpoint] = ()) -> None:
        """Write a state soon, and delete shorter ones of the same chat; `checkpoints` lead back to beginnings of it."""
        with self._guard:
            self._written.add(state.ids)
            waiting = _Waiting(self._key, state, checkpoints)
            self._waiting.append(waiting)
        self._later(waiting)

    def skip(self, state: SavedState) -> None:
        """Do not write this state, and do not offer it again."""
        with self._guard:
            self._written.add(state.ids)

    def forget(self, label: str) -> None:
        """Delete the states of this label soon; none of it is read from now on, and none written that waits for it."""
        with self._guard:
            gone = [each for each in self._entries if is_of(each.label, label)]
            self._entries = [each for each in self._entries if each not in gone]
            for each in self._waiting:
                if is_of(each.state.label, label):
                    each.forgotten = True
                    self._written.discard(each.state.ids)
            self._written -= {each.ids for each in gone}
        for entry in gone:
            self._later(entry)

    def _later(self, item: _Waiting | _Entry) -> None:
        """For the writing thread, so that the caller does not wait for the disk."""
        with self._guard:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="states on disk", daemon=True)
                self._thread.start()
        self._queue.put(item)

    def longest(self, ids: tuple[int, ...], most: int) -> int:
        """How many of these tokens a state on disk begins with, if it has at most `most` bytes."""
        return self.find(ids, most)[1]

    def find(self, ids: tuple[int, ...], most: int) -> tuple[Path | None, int]:
        """The file with the longest beginning of these tokens, and how many they are."""
        best = self._best(ids, most)
        return (best.path, common_prefix(best.ids, ids)) if best else (None, 0)

    def _best(self, ids: tuple[int, ...], most: int) -> _Entry | None:
        with self._guard:
            entries = [entry for entry in self._entries if entry.size <= most]
        return max(entries, key=lambda entry: common_prefix(entry.ids, ids), default=None)

    def load(self, ids: tuple[int, ...], most: int) -> tuple[SavedState, list[Checkpoint]] | None:
        """Read the state with the longest beginning of these tokens and at most `most` bytes; None if there is none, or
        it is damaged.
        """
        best = self._best(ids, most)
        if best is None or not common_prefix(best.ids, ids):
            return None
        try:
            found = _read(best.path, self._key)
            os.utime(best.path)
        except (OSError, ValueError) as error:
            log.warning("A chat's state on disk cannot be used: %s", error)
            self._remove(best)
            return None
        return found

    def close(self) -> None:
        """Write what is waiting, and end."""
        if self._thread:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    # --- the writing thread ---

    def _write_all(self) -> None:
        with contextlib.suppress(OSError):
            self._make_room()
        while (item := self._queue.get()) is not None:
            if isinstance(item, _Entry):
                with contextlib.suppress(OSError):
                    item.path.unlink()
                continue
            try:
                self._write(item)
            except OSError as error:
                log.warning("A chat's state could not be written to disk: %s", error)
            finally:
                with self._guard:
                    self._waiting.remove(item)

    def _write(self, waiting: _Waiting) -> None:
        key, state = waiting.key, waiting.state
        name = hashlib.blake2b(np.asarray(state.ids, np.int32).tobytes(), digest_size=12).hexdigest()
        path = self._folder / f"{key}-{name}{_SUFFIX}"
        if state.state.nbytes > self._capacity or waiting.forgotten:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f"{_process_name(os.getpid())}-{secrets.token_hex(8)}{_TEMPORARY}"
        try:  # readable for its owner only, because the text of the chat follows from it
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                _write_state(file, key, state, waiting.checkpoints)
                file.flush()
                os.fsync(file.fileno())
            with self._guard:  # either it is forgotten before, or it is there and deleted like the others
                if waiting.forgotten:
                    temporary.unlink()
                    return
                temporary.replace(path)
                older = self._place(key, _Entry(path, state.ids, state.label, path.stat().st_size))
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        for each in older:
            self._remove(each)
        self._make_room()

    def _place(self, key: str, made: _Entry) -> list[_Entry]:
        """Add what was written; returns what it replaces. Under the guard."""
        if key != self._key:
            return []
        older = [each for each in self._entries if _is_older(each, made)]
        left = [each for each in self._entries if each not in older and each.path != made.path]
        self._entries = [*left, made]
        return older

    def _make_room(self) -> None:
        files = []
        for path in self._paths():
            with contextlib.suppress(OSError):
                about = path.stat()
                files.append((about.st_mtime, about.st_size, path))
        for lost in [each for each in self._entries if not each.path.exists()]:  # another server has deleted it
            self._remove(lost)
        used = sum(size for _, size, _ in files) + sum(map(_size_of, self._folder.glob(f"*{_TEMPORARY}")))
        for _, size, path in sorted(files):
            if used <= self._capacity:
                return
            used -= size
            with self._guard:
                entry = next((each for each in self._entries if each.path == path), None)
            self._remove(entry or _Entry(path, (), "", 0))

    def _remove(self, entry: _Entry) -> None:
        with self._guard:
            self._entries = [each for each in self._entries if each.path != entry.path]
            self._written.discard(entry.ids)
        with contextlib.suppress(OSError):
            entry.path.unlink()

    def _paths(self) -> list[Path]:
        return list(self._folder.glob(f"*{_SUFFIX}"))


def stored_size(state: SavedState, checkpoints: Sequence[Checkpoint]) -> int:
    """The bytes of its file, or a few more."""
    return state.state.nbytes + sum(each.state.nbytes for each in checkpoints) + 4 * len(state.ids) + 4096


def usual_folder() -> Path:
    """Where the states of all models are."""
    return Path(os.environ.get(VARIABLE) or _USUAL)


def forget_states(label: str) -> int:
    """Delete the states of this label of all models, loaded or not; returns how many there were.

    A model that is loaded must be told as well: it has states in memory, and on their way to the disk.
    """
    count = 0
    for path in [*usual_folder().glob(f"*{_SUFFIX}"), *usual_folder().glob(f"*{_TEMPORARY}")]:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, struct.error, OverflowError):
            with path.open("rb") as file:
                header, _, _ = _read_beginning(file)
            if is_of(str(header["label"]), label):
                path.unlink()
                count += 1
    return count


def _remove_leftovers(folder: Path) -> None:
    """Delete the unfinished files of processes that have ended."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f"*{_TEMPORARY}"):
            pid, started, _ = (*path.stem.split("-"), "", "")[:3]
            ended = pid.isdecimal() and f"{pid}-{started}" != _process_name(int(pid))
            if ended or time.time() - path.stat().st_mtime > _LEFT:
                path.unlink(missing_ok=True)


def _process_name(pid: int) -> str:
    """Its id and the second of its start: another process may get the same id. Without the latter if it has ended."""
    try:
        return f"{pid}-{psutil.Process(pid).create_time():.0f}"
    except psutil.Error:
        return f"{pid}-ended"


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it was renamed or deleted meanwhile
        return 0


def _is_older(entry: _Entry, made: _Entry) -> bool:
    """Whether it is the same chat before its last turn, or that of a client of the API, whose chats have no names."""
    beginning = made.ids[: len(entry.ids)]
    return owner_of(entry.label) == owner_of(made.label) and entry.ids == beginning and len(entry.ids) < len(made.ids)


def _write_state(file: IO[bytes], key: str, state: SavedState, checkpoints: Sequence[Checkpoint]) -> None:
    ids = np.asarray(state.ids, "<i4").tobytes()
    header = {
        "key": key,
        "label": state.label,
        "first": state.first,
        "tokens": len(state.ids),
        "size": state.state.nbytes,
        "checkpoints": [[len(each.ids), each.state.nbytes] for each in checkpoints],
    }
    text = json.dumps(header).encode()
    check = 0
    parts: list[Any] = [struct.pack("<I", len(text)), text, ids, state.state, *(each.state for each in checkpoints)]
    file.write(_MAGIC)
    for part in parts:
        file.write(part)
        check = zlib.crc32(part, check)
    file.write(struct.pack("<I", check))


def _read_beginning(file: IO[bytes]) -> tuple[dict[str, Any], tuple[int, ...], int]:
    """Header, token ids, and the checksum so far. Raises: ValueError for anything else than such a file."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("it is not a state")
    raw = file.read(4)
    (length,) = struct.unpack("<I", raw)
    if length > _LARGEST_HEADER:
        raise ValueError("its header is damaged")
    text = file.read(length)
    try:
        header = json.loads(text)
    except RecursionError:
        raise ValueError("its header is damaged") from None
    size = 4 * int(header["tokens"])
    if not 0 <= size <= os.fstat(file.fileno()).st_size:
        raise ValueError("its header is damaged")
    ids = file.read(size)
    if len(ids) != size:
        raise ValueError("it ends too early")
    check = zlib.crc32(ids, zlib.crc32(text, zlib.crc32(raw)))
    return header, tuple(np.frombuffer(ids, "<i4").tolist()), check


def _read_entry(path: Path, key: str) -> _Entry | None:
    """What a file's beginning says; None for one of another model, and for a damaged one."""
    if not path.name.startswith(f"{key}-"):
        return None
    try:
        with path.open("rb") as file:
            header, ids, _ = _read_beginning(file)
        return _Entry(path, ids, str(header["label"]), path.stat().st_size) if header["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, struct.error, OverflowError):
        return None


def _read(path: Path, key: str) -> tuple[SavedState, list[Checkpoint]]:
    """Raises: OSError; ValueError for a damaged file."""
    with path.open("rb") as file:
        try:
            header, ids, check = _read_beginning(file)
            sizes = [(int(header["tokens"]), int(header["size"]))]
            sizes += [(int(length), int(size)) for length, size in header["checkpoints"]]
            first, label = int(header["first"]), str(header["label"])
            if header["key"] != key:
                raise ValueError("it belongs to another model")
        except (KeyError, TypeError, struct.error, OverflowError) as error:
            raise ValueError("its header is damaged") from error
        left = path.stat().st_size - file.tell() - 4
        if left != sum(size for _, size in sizes) or any(size < 0 for _, size in sizes):
            raise ValueError("it has another size than it says")
        found: list[npt.NDArray[np.uint8]] = []
        for _, size in sizes:
            part = np.empty(size, np.uint8)
            if file.readinto(part.data) != size:
                raise ValueError("it ends too early")
            check = zlib.crc32(part.data, check)
            found.append(part)
        if file.read(4) != struct.pack("<I", check):
            raise ValueError("its checksum differs")
    state = SavedState(ids, found[0], first, label, from_disk=True)
    return state, [Checkpoint(ids[:length], part) for (length, _), part in zip(sizes[1:], found[1:], strict=True)]
