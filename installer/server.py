"""Starts server.py after the installation. It must not know how anything was installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from installer.environment.variables import clean_environ
from installer.errors import InstallStopped
from installer.layout import Layout


def launch(layout: Layout, arguments: Sequence[str]) -> int:
    """Replace this process by server.py, so that signals and the exit code are its own. Raises: InstallStopped."""
    start = server_command(layout, arguments)
    sys.stdout.flush()
    if os.name != "nt":
        os.execve(layout.python, start, clean_environ(layout))
    return subprocess.call(start, env=clean_environ(layout))


def server_command(layout: Layout, arguments: Sequence[str]) -> list[str]:
    """The command that starts server.py. Raises: InstallStopped if it is missing."""
    server = layout.root / "server.py"
    if not server.exists():
        raise InstallStopped(f"{server} is missing. Download the complete project (git clone), then start again.")
    return [str(layout.python), str(server), *arguments]
