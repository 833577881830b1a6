"""One file from the hub to the disk: it goes on where it stopped, and counts as there when its checksum is right.

The bytes gather in NAME.part; a hash follows them in a thread of its own, so that checking costs no time of the
transfer's. This module knows nothing of jobs or of progress bars.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from errors import FetchFailed
from modules.config.atomic import replace
from modules.library.hub import Hub, Interrupted
from modules.library.hub_address import Address, RemoteFile

PATIENCE = 6  # attempts without a new byte
_PAUSE = 0.5  # seconds before the second one; doubled each time
_BEHIND = 16  # chunks that the hash may be behind
_CHUNK = 1 << 20


class Stopped(Exception):
    """`report` said so."""


#: Is told of bytes that came (negative: that are not there any more); False ends the transfer.
Report = Callable[[int], bool]


def fetch(hub: Hub, address: Address, file: RemoteFile, target: Path, report: Report) -> None:
    """Bring a file to `target`. Raises: Stopped, FetchFailed, NotFound, Unavailable.

    What came is kept for another time, unless its checksum is wrong.
    """
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    for wrong in range(2):
        digest = Digest(file)
        try:
            with part.open("ab") as out:
                if out.tell() > file.size:
                    out.truncate(0)
            with part.open("r+b", buffering=0) as out:
                while chunk := out.read(_CHUNK):
                    digest.add(chunk)
                    _tell(report, len(chunk))
                have = out.tell()
                while have < file.size:
                    before = have
                    try:
                        for chunk in hub.stream(address, file, have):
                            out.write(chunk)
                            digest.add(chunk)
                            have += len(chunk)
                            _tell(report, len(chunk))
                        if have == before:
                            raise Interrupted("nothing came")
                    except Interrupted as error:
                        failures = failures + 1 if have == before else 0
                        if failures >= PATIENCE:
                            raise FetchFailed(
                                file.path, str(error), "What came is kept: start it again later."
                            ) from None
                        _wait(error.wait or (_PAUSE * 2**failures if failures else 0), report)
            if have == file.size and digest.right():
                replace(part, target)
                return
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise FetchFailed(
                    file.path, "the disk is full", "Make room, then start it again: it goes on."
                ) from None
            raise FetchFailed(
                file.path, f"it cannot be written ({error.strerror})", "Look at the folder's rights."
            ) from None
        finally:
            digest.close()
        report(-have)
        with contextlib.suppress(OSError):
            part.unlink()
        if wrong:
            break
    raise FetchFailed(file.path, "its checksum is wrong, twice", "It was removed. The hub's copy may be broken.")


class Digest:
    """The checksum of what is added: SHA-256 where the hub gives it, else git's of a blob. Hashes in a thread."""

    def __init__(self, file: RemoteFile) -> None:
        self._wanted = file.sha256 or file.blob
        self._hash = (
            hashlib.sha256() if file.sha256 else hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
        )
        self._gathered: list[bytes] = []
        self._pool = ThreadPoolExecutor(1, "hash")
        self._pending: deque[Future[None]] = deque()

    def add(self, chunk: bytes) -> None:
        """More of the file."""
        self._gathered.append(chunk)
        if sum(map(len, self._gathered)) >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        chunk = b"".join(self._gathered)
        self._gathered.clear()
        while len(self._pending) >= _BEHIND:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._hash.update, chunk))

    def right(self) -> bool:
        """Whether all that was added is the file."""
        self._flush()
        self.close()
        return not self._wanted or self._hash.hexdigest() == self._wanted

    def close(self) -> None:
        """Hash what is left, and end the thread."""
        self._pool.shutdown(wait=True)


def _tell(report: Report, count: int) -> None:
    if not report(count):
        raise Stopped


def _wait(seconds: float, report: Report) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        _tell(report, 0)
        time.sleep(min(0.1, left))
