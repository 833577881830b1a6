"""The environment exchanged, or a part of it: whole, or not at all. It must not know what is exchanged, nor how."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from installer import keeping, part
from installer.disk import amount, size
from installer.layout import Layout


@contextlib.contextmanager
def exchanged(layout: Layout, new: bool, names: Sequence[str]) -> Iterator[None]:
    """What was there before is there again where this fails: the environment (`new`), or the files of these names."""
    if not new:
        part.move_aside(layout, names)
        try:
            yield
        except BaseException:
            part.restore(layout)
            print("\nThe environment is as it was before.", flush=True)
            raise
        part.done(layout)
        return
    aside = keeping.set_aside(layout)
    try:
        yield
    except BaseException:
        if aside and keeping.bring_back(layout):
            print("\nThe environment before it is untouched, and in use again.", flush=True)
        raise
    if aside:
        print(f"The environment before this one is kept for --go-back ({amount(size(layout.last))}; "
              "--clean throws it away).", flush=True)  # fmt: skip
