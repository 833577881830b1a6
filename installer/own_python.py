"""Continues a command with the installation's Python if it was started with another one, such as the system's.

People type `python server.py`, `python download-model.py` and `python -m modules.training`, as they did in the
original's environment.
It must not know what the program imports, besides a few packages that it cannot do without.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from installer.layout import Layout
from installer.project import script_name

_NEEDED = ("pydantic", "numpy", "psutil")


def use_own_python(root: Path) -> None:
    """Return if this Python has the program's packages, or is the installation's; otherwise do not return.

    The command continues in the installation's Python; without an installation, a sentence says how to get one.
    """
    layout = Layout(root)
    if all(importlib.util.find_spec(name) for name in _NEEDED) or Path(sys.prefix) == layout.env:
        return
    if not layout.python.exists():
        sys.exit(
            f"This Python ({sys.executable}) does not have the program's packages. Start the program with "
            f"{script_name('start')}, which installs them in its own folder."
        )
    command = [str(layout.python), *sys.orig_argv[1:]]
    if os.name == "nt":  # the terminal would not wait for the process that replaces it
        sys.exit(subprocess.call(command))
    sys.stdout.flush()
    os.execv(command[0], command)
