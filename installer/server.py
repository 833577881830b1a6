"""server.py, which comes after the installation: how it is started. It must not know how anything was installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from installer.errors import Stop
from installer.layout import Layout
from installer.variables import clean_environ


def launch(layout: Layout, arguments: Sequence[str]) -> int:
    """Becomes server.py, so that signals and the exit code are its own."""
    server = layout.root / "server.py"
    if not server.exists():
        raise Stop(f"{server} is missing; get the complete project (git clone) and start again.")
    command = [str(layout.python), str(server), *arguments]
    sys.stdout.flush()
    if os.name != "nt":
        os.execve(layout.python, command, clean_environ(layout))
    return subprocess.call(command, env=clean_environ(layout))
