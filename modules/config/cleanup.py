"""Deletes files that an earlier run left behind, if they are certainly ours and old.

Another server may be using the same folder, so the age decides: recently changed files stay. This module must not know
who wrote them.
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

#: The names that `atomic` gives to temporary files. A complete write takes seconds.
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")
_TEMPORARY_AGE = 3600.0

#: Uploads and downloads of the page: an open page may still refer to one for a day.
_PASSING_AGE = 86_400.0


def delete_temporaries(folders: Iterable[Path], deep: Iterable[Path] = (), *, now: float | None = None) -> int:
    """Delete temporary files that a killed run left in these folders and below `deep`; returns how many."""
    limit = (time.time() if now is None else now) - _TEMPORARY_AGE
    found = [each for folder in folders for each in _entries(folder)]
    found += [each for folder in deep for each in _below(folder)]
    old = [each for each in found if _TEMPORARY.fullmatch(each.name) and _is_old_file(each, limit)]
    return _remove(old)


def delete_old_files(folder: Path, *, now: float | None = None) -> int:
    """Delete files in one of our temporary folders that are a day old, and folders that become empty."""
    limit = (time.time() if now is None else now) - _PASSING_AGE
    # a younger folder may be about to receive a file; checked first, because a deletion changes the folder's time
    folders = [each for each in _folders(folder) if _changed_at(each) < limit]
    removed = _remove([each for each in _below(folder) if _is_old_file(each, limit)])
    for each in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):  # not empty
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
            log.info("Cannot remove the leftover file %s: %s", each.path, error.strerror)
    return removed
