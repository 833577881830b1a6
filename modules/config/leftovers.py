"""Files that an earlier run has left behind: cleared at the start where they are surely ours, and surely old.

Another server of the same folder may be running and writing, so the age decides: what was touched lately stays. This
module must not know who wrote what.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

log = logging.getLogger(__name__)

#: How `atomic` names a file that has not got its name yet. A whole write takes seconds.
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")
_TEMPORARY_AGE = 3600.0

#: Uploads and files that were handed out: a page that is still open may come back to one for a day.
_PASSING_AGE = 86_400.0


def clear_temporaries(folders: Iterable[Path], deep: Iterable[Path] = (), *, now: float | None = None) -> int:
    """Remove half-written files that a killed run left in these folders and below `deep`; how many."""
    limit = (time.time() if now is None else now) - _TEMPORARY_AGE
    found = [each for folder in folders for each in _entries(folder)]
    found += [each for folder in deep for each in _below(folder)]
    old = [each for each in found if _TEMPORARY.fullmatch(each.name) and _is_old_file(each, limit)]
    return _remove(old)


def clear_old(folder: Path, *, now: float | None = None) -> int:
    """Remove what has passed through a folder of ours and is a day old, with the folders that are empty then."""
    limit = (time.time() if now is None else now) - _PASSING_AGE
    # of a younger folder, a file may be about to come; asked before, since a removal makes the folder young
    folders = [each for each in _folders(folder) if _changed_at(each) < limit]
    removed = _remove([each for each in _below(folder) if _is_old_file(each, limit)])
    for each in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):  # something is in it
            each.rmdir()
    return removed


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            yield from found
    except OSError:
        return


def _below(folder: Path) -> Iterator[os.DirEntry[str]]:
    waiting = [folder]
    while waiting:
        for each in _entries(waiting.pop()):
            if _is_folder(each):
                waiting.append(Path(each.path))
            else:
                yield each


def _folders(folder: Path) -> list[Path]:
    waiting, found = [folder], []
    while waiting:
        inner = [Path(each.path) for each in _entries(waiting.pop()) if _is_folder(each)]
        found += inner
        waiting += inner
    return found


def _changed_at(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return float("inf")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    with contextlib.suppress(OSError):
        return entry.is_dir(follow_symlinks=False)
    return False


def _is_old_file(entry: os.DirEntry[str], limit: float) -> bool:
    with contextlib.suppress(OSError):
        return entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < limit
    return False


def _remove(entries: Iterable[os.DirEntry[str]]) -> int:
    removed = 0
    for each in entries:
        try:
            os.unlink(each.path)  # noqa: PTH108  the entry has a path as text
            removed += 1
        except OSError as error:
            log.info("%s is left over and cannot be removed: %s", each.path, error.strerror)
    return removed
