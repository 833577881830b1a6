"""Replaces or changes the environment, completely or not at all. It must not know what is changed, or how."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from installer.environment import in_place_update, rollback
from installer.hardware.disk import folder_size, format_bytes
from installer.layout import Layout


@contextlib.contextmanager
def change_in_place(layout: Layout) -> Iterator[None]:
    """Inside, the environment may be changed in place; if this fails, it is restored together with its state."""
    in_place_update.move_aside(layout)
    try:
        yield
    except BaseException:
        if in_place_update.restore_environment(layout):
            print("\nThe environment was restored.", flush=True)
        raise
    in_place_update.finish_change(layout)


@contextlib.contextmanager
def swap_environment(layout: Layout, *, room: bool = True) -> Iterator[None]:
    """Inside, a new environment may be created; if this fails, the previous one is used again, otherwise it is kept.

    `room`: whether there is space to keep the one before that meanwhile.
    """
    aside = rollback.set_aside(layout, room=room)
    try:
        yield
    except BaseException:
        if aside and rollback.restore_previous(layout):
            print("\nThe previous environment was restored.", flush=True)
        raise
    if aside:
        rollback.finish_update(layout)
        print(f"The previous environment is kept for --go-back ({format_bytes(folder_size(layout.last))}; delete it "
        "with --clean).", flush=True)  # fmt: skip
