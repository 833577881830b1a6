"""The environment before the present one: moved aside while a new one is made, brought back when that fails.

The new one is made in its final place, as an environment's programs hold the path that they were made in; the old one
only waits under another name, untouched. It must not know what is in either.
"""

from __future__ import annotations

import shutil

from installer.errors import Stop
from installer.layout import Layout
from installer.lock import only_one
from installer.state import read_state, write_state


def set_aside(layout: Layout) -> bool:
    """Move a finished environment aside. False where there is none worth keeping."""
    state = read_state(layout)
    if not (state.get("complete") and layout.env.exists()):
        return False
    shutil.rmtree(layout.last, ignore_errors=True)
    shutil.copyfile(layout.state, layout.last_state)
    try:
        layout.env.rename(layout.last)
        write_state(layout, {**state, "complete": False})  # so that a crash from here on is noticed
    except OSError as error:
        if not layout.env.exists() and layout.last.exists():
            layout.last.rename(layout.env)
        raise Stop(
            f"The environment could not be moved aside ({error.strerror}): is the web UI still running from it? Close "
            "it and try again."
        ) from error
    return True


def unfinished(layout: Layout) -> bool:
    """Whether an update or a repair has moved the environment aside and is not done: at work still, or interrupted."""
    return not read_state(layout).get("complete") and _kept(layout)


def _kept(layout: Layout) -> bool:
    return layout.last.exists() and layout.last_state.exists()


def bring_back(layout: Layout) -> bool:
    """Let the environment that was set aside be the present one again. False where there is none.

    Under the lock only: the present one is thrown away, and another process may be making it.
    """
    if not _kept(layout):
        return False
    shutil.rmtree(layout.env, ignore_errors=True)
    layout.last.rename(layout.env)
    layout.last_state.replace(layout.state)
    return True


def go_back(layout: Layout) -> bool:
    """Change the present environment for the one before it; whether the present one is kept in its place. Raises: Stop.

    It waits for an installation that is at work. A half-made environment is not kept.
    """
    nothing = "There is no earlier environment to go back to: one is kept when an update or a repair has succeeded."
    if not _kept(layout):
        raise Stop(nothing)
    with only_one(layout):
        if not _kept(layout):  # whoever was waited for has brought it back
            raise Stop(nothing)
        if unfinished(layout):
            bring_back(layout)
            return False
        _exchange(layout)
        return True


def _exchange(layout: Layout) -> None:
    now, between = read_state(layout), layout.files / "env.between"
    shutil.rmtree(between, ignore_errors=True)
    before = layout.last_state.read_text("utf-8")
    if layout.env.exists():
        layout.env.rename(between)
    layout.last.rename(layout.env)
    layout.state.write_text(before, "utf-8")
    if between.exists():
        between.rename(layout.last)
        write_state(layout, now, layout.last_state)
