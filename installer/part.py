"""A part of the environment exchanged in place: the old files wait beside it, and come back when the new ones fail.

Each step can be the last before the power fails: restore() knows after each how far it went. It must not know which
part it is, beyond the names that it is given.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from installer.errors import Stop
from installer.layout import Layout
from installer.mishaps import NO_PLACE
from installer.state import read_state, write_state

_STATE, _NAMES, _ALL = "state.json", "names.json", "all-is-here"


def move_aside(layout: Layout, names: Sequence[str]) -> None:
    """Moves aside what matches the names, glob patterns in site-packages, and notes it. Raises: Stop, OSError."""
    aside, state = layout.part, read_state(layout)
    try:
        aside.mkdir()
        write_state(layout, {"names": list(names)}, aside / _NAMES)
        write_state(layout, state, aside / _STATE)
        for path in _matching(layout, names):
            path.rename(aside / path.name)
        (aside / _ALL).touch()
        write_state(layout, {**state, "complete": False})
    except OSError as error:
        restore(layout)
        if error.errno in NO_PLACE:
            raise
        raise Stop(
            f"A part of the environment could not be moved aside ({error.strerror}): is the web UI still running from "
            "it? Close it and try again."
        ) from error


def interrupted(layout: Layout) -> bool:
    """Whether a part is moved aside: by one that is at work still, or that was ended."""
    return layout.part.exists()


def restore(layout: Layout) -> bool:
    """The old files are in place again, and the old state with them. False where nothing was moved aside.

    Under the lock only.
    """
    aside = layout.part
    if not aside.exists():
        return False
    state = read_state(layout, aside / _STATE)
    if not state:  # it was ended before anything was moved
        shutil.rmtree(aside, ignore_errors=True)
        return False
    if (aside / _ALL).exists():  # so all that matches now is new
        for path in _matching(layout, read_state(layout, aside / _NAMES).get("names", [])):
            _remove(path)
        (aside / _ALL).unlink()
    for path in sorted(aside.iterdir()):
        if path.name not in (_STATE, _NAMES):
            path.rename(layout.site_packages / path.name)
    (aside / _STATE).replace(layout.state)  # not written anew: the disk may be full
    shutil.rmtree(aside, ignore_errors=True)
    return True


def done(layout: Layout) -> None:
    """The new files stay; the old ones are thrown away. After the new state was written."""
    gone = layout.part.with_name(f"{layout.part.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    if layout.part.exists():
        layout.part.rename(gone)  # at once: half of a part must not be restored
    shutil.rmtree(gone, ignore_errors=True)


def _matching(layout: Layout, names: Sequence[str]) -> list[Path]:
    return [path for name in names for path in sorted(layout.site_packages.glob(name))]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
