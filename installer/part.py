"""The environment changed in place: the old one waits beside it, and comes back whole when the change fails.

What is changed lies in the old place and has the same files, by second names for them (hard links; copies where the
disk knows none). pip and uv never write into a file that is there, they put another in its place, so that the old
environment stays as it was. Each step can be the last before the power fails: restore() knows after each how far it
went. It must not know what is changed, nor how.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from installer.errors import Stop
from installer.layout import Layout
from installer.mishaps import NO_PLACE
from installer.state import read_state, write_state


def move_aside(layout: Layout) -> None:
    """Moves the environment aside, and puts in its place one to change. Raises: Stop, OSError."""
    state = read_state(layout)
    try:
        shutil.rmtree(layout.part, ignore_errors=True)
        write_state(layout, state, layout.part_state)
        write_state(layout, {**state, "complete": False})
        layout.env.rename(layout.part)
        _double(layout.part, layout.env)
    except OSError as error:
        restore(layout)
        if error.errno in NO_PLACE:
            raise
        raise Stop(
            f"The environment could not be moved aside ({error.strerror}): is the web UI still running from it? Close "
            "it and try again."
        ) from error


def interrupted(layout: Layout) -> bool:
    """Whether a change was begun and is not done: by one that is at work still, or that was ended."""
    return layout.part_state.exists() or layout.part.exists()


def restore(layout: Layout) -> bool:
    """The old environment is in its place again, and the old state with it. False where none was moved aside.

    Under the lock only. Raises: Stop.
    """
    if not layout.part_state.exists():  # the change was done, and only the old one not yet thrown away
        shutil.rmtree(layout.part, ignore_errors=True)
        return False
    if layout.part.exists():
        _replace(layout, layout.part)
    layout.part_state.replace(layout.state)  # not written anew: the disk may be full
    return True


def done(layout: Layout) -> None:
    """What was changed stays; the old one is thrown away. After the new state was written."""
    layout.part_state.unlink(missing_ok=True)  # first: half of an environment must not be restored
    shutil.rmtree(layout.part, ignore_errors=True)


@contextlib.contextmanager
def attempted(layout: Layout) -> Iterator[None]:
    """What fails in here leaves the environment as it was; for a step of an installation that goes on without it.

    It remembers nothing: a crash is noticed by the installation around it. Raises: OSError, Stop.
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
    """The environment is thrown away, and what was kept takes its place. Raises: Stop."""
    shutil.rmtree(layout.env, ignore_errors=True)
    try:
        kept.rename(layout.env)
    except OSError as error:
        raise Stop(
            f"The environment as it was before could not be moved back ({error.strerror}). Close what still runs from "
            f"{layout.env} and start again."
        ) from error


def _double(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a disk without such links, or a file that has too many: where it is full, this fails as well
        shutil.copy2(source, target, follow_symlinks=False)
