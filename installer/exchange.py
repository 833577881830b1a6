"""The environment exchanged, or changed in place: whole, or not at all. It must not know what is changed, nor how."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from installer import keeping, part
from installer.disk import amount, size
from installer.layout import Layout


@contextlib.contextmanager
def changed(layout: Layout) -> Iterator[None]:
    """The environment may be changed in place; it is there again as it was, and its state, where this fails."""
    part.move_aside(layout)
    try:
        yield
    except BaseException:
        if part.restore(layout):
            print("\nThe environment is as it was before.", flush=True)
        raise
    part.done(layout)


@contextlib.contextmanager
def exchanged(layout: Layout, *, room: bool = True) -> Iterator[None]:
    """A new environment may be made; where this fails the one before it is in use again, else it is kept.

    `room`: whether there is space for what can be gone back to meanwhile.
    """
    aside = keeping.set_aside(layout, room=room)
    try:
        yield
    except BaseException:
        if aside and keeping.bring_back(layout):
            print("\nThe environment before it is untouched, and in use again.", flush=True)
        raise
    if aside:
        keeping.done(layout)
        print(f"The environment before this one is kept for --go-back ({amount(size(layout.last))}; "
              "--clean throws it away).", flush=True)  # fmt: skip
