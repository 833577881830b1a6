"""The user's actions on the previous environment: go back to it, or delete it.

It must not know how an environment is created.
"""

from __future__ import annotations

from installer.environment import held_environment, rollback
from installer.errors import InstallStopped
from installer.hardware.disk import folder_size, format_bytes
from installer.layout import Layout
from installer.lock import install_lock
from installer.state import read_state


def go_back(layout: Layout) -> int:
    """Go back to the previous environment, which stays until something newer must be installed. Raises:
    InstallStopped.
    """
    undoable = rollback.go_back(layout)
    state = read_state(layout)
    held_environment.hold_environment(layout, held_environment.desired_state(layout, state, {}), "", chosen=True)
    print(f"The previous environment was restored{'; run --go-back again to undo that' if undoable else ''}.")
    if made := held_environment.held_version(layout, state).strip():
        print(made)
    fits, said = held_environment.can_run(layout, compute=False)
    if not fits:
        print(f"It cannot run the current version of the program ({said}).")
    return 0


def delete_previous(layout: Layout) -> int:
    """Delete the previous environment. Raises: InstallStopped."""
    if not layout.last.exists():
        print("There is no previous environment to delete.")
        return 0
    with install_lock(layout):
        if rollback.is_update_unfinished(layout):
            raise InstallStopped(
                "The last update was interrupted, so the previous environment is still needed. Start the web UI "
                "once first."
            )
        gone = folder_size(layout.last)
        rollback.delete_previous(layout)
        rollback.finish_update(layout)
    if layout.last.exists():
        raise InstallStopped(
            f"{layout.last} could not be deleted completely: close all programs that use it, then try again."
        )
    print(
        f"The previous environment was deleted, which freed {format_bytes(gone)}. --go-back is available again "
        "after the next update."
    )
    return 0
