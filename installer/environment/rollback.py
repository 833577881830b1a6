"""The previous environment: moved aside while a new one is created, and restored if that fails.

The new one is created in its final place, because an environment's programs contain its path; the old one is only
renamed and stays untouched. The power may fail after any step: recover() completes or undoes what was begun. It must
not know what either contains.
"""

from __future__ import annotations

import shutil

from installer.errors import InstallStopped
from installer.layout import Layout
from installer.lock import install_lock
from installer.state import read_state, write_state
from installer.unexpected_errors import NO_PLACE

NOTHING = "There is no previous environment to go back to: one is kept after each successful update or repair."


def set_aside(layout: Layout, *, room: bool = True) -> bool:
    """Move a finished environment aside. False if there is none worth keeping. Raises: InstallStopped, OSError.

    `room`: whether there is space for the one before it as well, which is then kept until the update is finished.
    """
    state = read_state(layout)
    if not (state.get("complete", True) and layout.env.exists()):  # if its state is lost, nothing bad is known of it
        return False
    _end_older(layout)
    if not (room and has_previous(layout)):
        delete_previous(layout)
    try:
        if has_previous(layout):
            layout.last_state.rename(layout.older_state)
            layout.last.rename(layout.older)
        write_state(layout, state, layout.last_state)
        write_state(layout, {**state, "complete": False})  # so that a crash from here on is noticed
        layout.env.rename(layout.last)
    except OSError as error:
        restore_previous(layout)
        if error.errno in NO_PLACE:
            raise
        raise InstallStopped(
            f"The environment could not be moved ({error.strerror}). Close the web UI if it is still running, "
            "then try again."
        ) from error
    return True


def delete_previous(layout: Layout) -> None:
    """Delete the previous environment, if there is one."""
    layout.last_state.unlink(missing_ok=True)  # first: a half-deleted environment cannot be restored
    shutil.rmtree(layout.last, ignore_errors=True)


def finish_update(layout: Layout) -> None:
    """The new environment is complete: delete the one before the previous one."""
    layout.older_state.unlink(missing_ok=True)
    shutil.rmtree(layout.older, ignore_errors=True)


def _end_older(layout: Layout) -> None:
    """Put the environment before the previous one back in its place, or delete it if a later one has taken the
    place.
    """
    if not layout.older_state.exists() or has_previous(layout):
        finish_update(layout)
        return
    layout.last_state.unlink(missing_ok=True)  # it was never moved aside
    if layout.older.exists():
        shutil.rmtree(layout.last, ignore_errors=True)
        layout.older.rename(layout.last)
    layout.older_state.replace(layout.last_state)


def is_update_unfinished(layout: Layout) -> bool:
    """Whether a change of the environment was begun and is not finished: still running, or interrupted."""
    if layout.between.exists() or layout.between_state.exists() or layout.older_state.exists():
        return True
    moved = layout.last_state.exists() and (layout.last.exists() or layout.env.exists())
    return read_state(layout).get("complete") is False and moved


def has_previous(layout: Layout) -> bool:
    """Whether there is a previous environment to go back to."""
    return layout.last.exists() and layout.last_state.exists()


def recover(layout: Layout) -> bool:
    """Complete or undo what was interrupted; returns whether the previous environment is in use again. Only under the
    lock.
    """
    if layout.between.exists() or layout.between_state.exists():
        _end_exchange(layout)
        return False
    if read_state(layout).get("complete") is False:
        return is_update_unfinished(layout) and restore_previous(layout)
    _end_older(layout)
    return False


def restore_previous(layout: Layout) -> bool:
    """Make the environment that was set aside the present one again. False if there is none. Raises: InstallStopped.

    Only under the lock: the present one is deleted, and another process may be creating it.
    """
    if not layout.last_state.exists():
        _end_older(layout)
        return False
    if layout.last.exists():
        shutil.rmtree(layout.env, ignore_errors=True)
        try:
            layout.last.rename(layout.env)
        except OSError as error:
            raise InstallStopped(
                f"The previous environment could not be restored ({error.strerror}). Close all programs that use "
                f"{layout.env}, then start again."
            ) from error
    layout.last_state.replace(layout.state)
    _end_older(layout)
    return True


def go_back(layout: Layout) -> bool:
    """Swap the present environment with the previous one. Returns whether the present one is kept.

    Waits for a running installation. An unfinished environment is not kept. Raises: InstallStopped.
    """
    if not (has_previous(layout) or is_update_unfinished(layout)):
        raise InstallStopped(NOTHING)
    with install_lock(layout):
        back = recover(layout)  # the process that was waited for may have been killed halfway
        if back or not has_previous(layout):
            if back:
                return False
            raise InstallStopped(NOTHING)
        if not layout.env.exists():
            restore_previous(layout)
            return False
        _exchange(layout)
        return True


def _exchange(layout: Layout) -> None:
    """In steps after each of which _end_exchange can tell how far they got."""
    write_state(layout, read_state(layout, layout.last_state), layout.between_state)
    try:
        layout.env.rename(layout.between)
    except OSError as error:
        layout.between_state.unlink()
        raise InstallStopped(
            f"The environment could not be moved ({error.strerror}). Close the web UI if it is still running, "
            "then try again."
        ) from error
    layout.last.rename(layout.env)
    _end_exchange(layout)


def _end_exchange(layout: Layout) -> None:
    if layout.between.exists():
        if not layout.env.exists():  # the previous one has not moved yet: undo
            layout.between.rename(layout.env)
        else:
            if layout.between_state.exists():
                write_state(layout, read_state(layout), layout.last_state)
                layout.between_state.replace(layout.state)
            layout.between.rename(layout.last)
    layout.between_state.unlink(missing_ok=True)
