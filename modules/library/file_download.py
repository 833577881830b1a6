"""Downloads one file from the hub: resumes where it stopped, and counts as complete when its checksum is right.

The data is written to NAME.part and hashed in a separate thread, so that verification does not slow down the transfer.
This module knows nothing of jobs or progress bars.
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
from modules.library.hub import HubClient, HubInterrupted
from modules.library.hub_address import HubAddress
from modules.library.hub_files import RemoteFile

PATIENCE = 6  # attempts without progress
_PAUSE = 0.5  # seconds before the second attempt; doubled each time
_BEHIND = 16  # chunks by which the hash may lag behind
_CHUNK = 1 << 20


class DownloadStopped(Exception):
    """`report` requested it."""


#: Called with the number of new bytes (negative: bytes that were discarded); False ends the transfer.
Report = Callable[[int], bool]


def fetch_file(hub: HubClient, address: HubAddress, file: RemoteFile, target: Path, report: Report) -> None:
    """Download a file to `target`. Raises: DownloadStopped, FetchFailed, NotFound, Unavailable.

    Downloaded data is kept for later, unless its checksum is wrong.
    """
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    for wrong in range(2):
        digest = FileDigest(file)
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
                            raise HubInterrupted("no data was received")
                    except HubInterrupted as error:
                        failures = failures + 1 if have == before else 0
                        if failures >= PATIENCE:
                            raise FetchFailed(file.path, str(error), "Start it again later to resume it.") from None
                        _wait(error.wait or (_PAUSE * 2**failures if failures else 0), report)
            if have == file.size and digest.right():
                replace(part, target)
                return
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise FetchFailed(
                    file.path, "the disk is full", "Free some disk space, then start it again to resume it."
                ) from None
            raise FetchFailed(
                file.path, f"it could not be written ({error.strerror})", "Check the folder's permissions."
            ) from None
        finally:
            digest.close()
        report(-have)
        with contextlib.suppress(OSError):
            part.unlink()
        if wrong:
            break
    raise FetchFailed(file.path, "it had a wrong checksum twice", "It was deleted. The file on the hub may be damaged.")


def is_same_file(path: Path, file: RemoteFile, report: Report) -> bool:
    """Whether a file on disk is this one; what is read is reported, and taken back if it is another one.

    Raises: DownloadStopped.
    """
    done = 0
    digest = FileDigest(file)
    try:
        if not path.is_file() or path.stat().st_size != file.size:
            return False
        with path.open("rb") as data:
            while chunk := data.read(_CHUNK):
                digest.add(chunk)
                done += len(chunk)
                _tell(report, len(chunk))
        if digest.right():
            return True
    except OSError:  # it is downloaded then
        pass
    finally:
        digest.close()
    report(-done)
    return False


class FileDigest:
    """The checksum of the data: SHA-256 if the hub provides it, else git's blob hash. Computed in a thread."""

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
        """Whether the data is the complete, correct file."""
        self._flush()
        self.close()
        return not self._wanted or self._hash.hexdigest() == self._wanted

    def close(self) -> None:
        """Hash the rest, and end the thread."""
        self._pool.shutdown(wait=True)


def _tell(report: Report, count: int) -> None:
    if not report(count):
        raise DownloadStopped


def _wait(seconds: float, report: Report) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        _tell(report, 0)
        time.sleep(min(0.1, left))
