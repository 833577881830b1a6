"""Changes the environment in place: the old one is kept beside it and restored if the change fails.

The copy to be changed takes the old place and shares the same files by hard links (copies on file systems without
them). pip and uv never write into an existing file but replace it, so the old environment stays unchanged. The power
may fail after any step: restore_environment() detects how far it got. It must not know what is changed, or how.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from installer.errors import InstallStopped
from installer.layout import Layout
from installer.state import read_state, write_state
from installer.unexpected_errors import NO_PLACE


def move_aside(layout: Layout) -> None:
    """Move the environment aside and put a copy to be changed in its place. Raises: InstallStopped, OSError."""
    state = read_state(layout)
    try:
        shutil.rmtree(layout.part, ignore_errors=True)
        write_state(layout, state, layout.part_state)
        write_state(layout, {**state, "complete": False})
        layout.env.rename(layout.part)
        _double(layout.part, layout.env)
    except OSError as error:
        restore_environment(layout)
        if error.errno in NO_PLACE:
            raise
        raise InstallStopped(
            f"The environment could not be moved ({error.strerror}). Close the web UI if it is still running, "
            "then try again."
        ) from error


def is_interrupted(layout: Layout) -> bool:
    """Whether a change was begun and not finished: by a process that is still running, or one that ended."""
    return layout.part_state.exists() or layout.part.exists()


def restore_environment(layout: Layout) -> bool:
    """Put the old environment and the old state back. False if none was moved aside.

    Only under the lock. Raises: InstallStopped.
    """
    if not layout.part_state.exists():  # the change was finished, only the old one was not deleted yet
        shutil.rmtree(layout.part, ignore_errors=True)
        return False
    if layout.part.exists():
        _replace(layout, layout.part)
    layout.part_state.replace(layout.state)  # moved, not written: the disk may be full
    return True


def finish_change(layout: Layout) -> None:
    """Keep the changed environment and delete the old one. Called after the new state was written."""
    layout.part_state.unlink(missing_ok=True)  # first: a half-deleted environment must not be restored
    shutil.rmtree(layout.part, ignore_errors=True)


@contextlib.contextmanager
def change_or_restore(layout: Layout) -> Iterator[None]:
    """If the code inside fails, the environment is restored; for a step that the installation can do without.

    It stores nothing: a crash is noticed by the installation around it. Raises: OSError, InstallStopped.
    """
    shutil.rmtree(layout.attempt, ignore_errors=True)
    layout.env.rename(layout.attempt)
    try:
        _double(layout.attempt, layout.env)
        yield
    except BaseException:
        _replace(layout, layout.attempt)
        raise
    shutil.rmtree(layout.attempt, ignore_errors=True)


def _replace(layout: Layout, kept: Path) -> None:
    """Delete the environment and put the kept one in its place. Raises: InstallStopped."""
    shutil.rmtree(layout.env, ignore_errors=True)
    try:
        kept.rename(layout.env)
    except OSError as error:
        raise InstallStopped(
            f"The previous environment could not be restored ({error.strerror}). Close all programs that use "
            f"{layout.env}, then start again."
        ) from error


def _double(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # no hard links, or too many of one file; if the disk is full, this fails as well
        shutil.copy2(source, target, follow_symlinks=False)
