"""The environment before the present one: moved aside while a new one is made, brought back when that fails.

The new one is made in its final place, as an environment's programs hold the path that they were made in; the old one
only waits under another name, untouched. Each step can be the last before the power fails: recover() ends or undoes
what was begun. It must not know what is in either.
"""

from __future__ import annotations

import shutil

from installer.errors import Stop
from installer.layout import Layout
from installer.lock import only_one
from installer.mishaps import NO_PLACE
from installer.state import read_state, write_state

NOTHING = "There is no earlier environment to go back to: one is kept when an update or a repair has succeeded."


def set_aside(layout: Layout, *, room: bool = True) -> bool:
    """Move a finished environment aside. False where there is none worth keeping. Raises: Stop, OSError.

    `room`: whether there is space for the one before it as well, which is then kept until the update is done.
    """
    state = read_state(layout)
    if not (state.get("complete", True) and layout.env.exists()):  # of one whose state is lost nothing bad is known
        return False
    _end_older(layout)
    if not (room and kept(layout)):
        forget(layout)
    try:
        if kept(layout):
            layout.last_state.rename(layout.older_state)
            layout.last.rename(layout.older)
        write_state(layout, state, layout.last_state)
        write_state(layout, {**state, "complete": False})  # so that a crash from here on is noticed
        layout.env.rename(layout.last)
    except OSError as error:
        bring_back(layout)
        if error.errno in NO_PLACE:
            raise
        raise Stop(
            f"The environment could not be moved aside ({error.strerror}): is the web UI still running from it? Close "
            "it and try again."
        ) from error
    return True


def forget(layout: Layout) -> None:
    """Throws away the environment before this one, if there is one."""
    layout.last_state.unlink(missing_ok=True)  # first: half of an environment is nothing to go back to
    shutil.rmtree(layout.last, ignore_errors=True)


def done(layout: Layout) -> None:
    """The new one is whole: what was there before the one before it is thrown away."""
    layout.older_state.unlink(missing_ok=True)
    shutil.rmtree(layout.older, ignore_errors=True)


def _end_older(layout: Layout) -> None:
    """The environment before the one before: back in its place, or away where the place is taken by a later one."""
    if not layout.older_state.exists() or kept(layout):
        done(layout)
        return
    layout.last_state.unlink(missing_ok=True)  # of one that never was moved aside
    if layout.older.exists():
        shutil.rmtree(layout.last, ignore_errors=True)
        layout.older.rename(layout.last)
    layout.older_state.replace(layout.last_state)


def unfinished(layout: Layout) -> bool:
    """Whether a change of the environment was begun and is not done: at work still, or interrupted."""
    if layout.between.exists() or layout.between_state.exists() or layout.older_state.exists():
        return True
    moved = layout.last_state.exists() and (layout.last.exists() or layout.env.exists())
    return read_state(layout).get("complete") is False and moved


def kept(layout: Layout) -> bool:
    """Whether there is an environment to go back to."""
    return layout.last.exists() and layout.last_state.exists()


def recover(layout: Layout) -> bool:
    """Ends or undoes what was interrupted; whether the environment before is in use again. Under the lock only."""
    if layout.between.exists() or layout.between_state.exists():
        _end_exchange(layout)
        return False
    if read_state(layout).get("complete") is False:
        return unfinished(layout) and bring_back(layout)
    _end_older(layout)
    return False


def bring_back(layout: Layout) -> bool:
    """Let the environment that was set aside be the present one again. False where there is none. Raises: Stop.

    Under the lock only: the present one is thrown away, and another process may be making it.
    """
    if not layout.last_state.exists():
        _end_older(layout)
        return False
    if layout.last.exists():
        shutil.rmtree(layout.env, ignore_errors=True)
        try:
            layout.last.rename(layout.env)
        except OSError as error:
            raise Stop(
                f"The environment before this one could not be moved back ({error.strerror}). Close what still runs "
                f"from {layout.env} and start again."
            ) from error
    layout.last_state.replace(layout.state)
    _end_older(layout)
    return True


def go_back(layout: Layout) -> bool:
    """Change the present environment for the one before it; whether the present one is kept in its place. Raises: Stop.

    It waits for an installation that is at work. A half-made environment is not kept.
    """
    if not (kept(layout) or unfinished(layout)):
        raise Stop(NOTHING)
    with only_one(layout):
        back = recover(layout)  # whoever was waited for may have been ended in the middle
        if back or not kept(layout):
            if back:
                return False
            raise Stop(NOTHING)
        if not layout.env.exists():
            bring_back(layout)
            return False
        _exchange(layout)
        return True


def _exchange(layout: Layout) -> None:
    """In steps of which _end_exchange knows after each how far they went."""
    write_state(layout, read_state(layout, layout.last_state), layout.between_state)
    try:
        layout.env.rename(layout.between)
    except OSError as error:
        layout.between_state.unlink()
        raise Stop(
            f"The environment could not be moved aside ({error.strerror}): is the web UI still running from it? Close "
            "it and try again."
        ) from error
    layout.last.rename(layout.env)
    _end_exchange(layout)


def _end_exchange(layout: Layout) -> None:
    if layout.between.exists():
        if not layout.env.exists():  # the one before has not moved yet: undo
            layout.between.rename(layout.env)
        else:
            if layout.between_state.exists():
                write_state(layout, read_state(layout), layout.last_state)
                layout.between_state.replace(layout.state)
            layout.between.rename(layout.last)
    layout.between_state.unlink(missing_ok=True)
