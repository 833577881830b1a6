"""What the user may do with the environment before this one: go back to it, or throw it away.

It must not know how an environment is made.
"""

from __future__ import annotations

from installer import holding, keeping
from installer.disk import amount, size
from installer.errors import Stop
from installer.layout import Layout
from installer.lock import only_one
from installer.state import read_state


def go_back(layout: Layout) -> int:
    """The environment before this one, which then stays until something newer is wanted. Raises: Stop."""
    undoable = keeping.go_back(layout)
    state = read_state(layout)
    holding.hold(layout, holding.wanted(layout, state, {}), "", chosen=True)
    print(f"The environment before this one is back{'; --go-back once more undoes that' if undoable else ''}.")
    if made := holding.version_of(layout, state).strip():
        print(made)
    fits, said = holding.usable(layout, compute=False)
    if not fits:
        print(f"It cannot run the program as it is now ({said}).")
    return 0


def clean(layout: Layout) -> int:
    """Throws away the environment before this one. Raises: Stop."""
    if not layout.last.exists():
        print("There is no earlier environment, and so nothing to throw away.")
        return 0
    with only_one(layout):
        if keeping.unfinished(layout):
            raise Stop("An update was ended in the middle, and what was before it is needed. Start once first.")
        gone = size(layout.last)
        keeping.forget(layout)
        keeping.done(layout)
    if layout.last.exists():
        raise Stop(f"{layout.last} could not be thrown away wholly: close what still runs from it and try again.")
    print(
        f"The environment before this one is thrown away; {amount(gone)} are free again. --go-back needs another one."
    )
    return 0
