"""Installs packages into the environment with uv, or with pip if uv cannot reach the package index.

It must not know which packages there are, or that llama.cpp is one of them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from installer.environment.variables import uv_settings
from installer.errors import InstallStopped
from installer.hardware.disk import GIB, cache_folder, disk_problem
from installer.runner import Runner


class Packages:
    """Installs packages; after uv has failed once, it uses pip."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.layout = runner.layout
        self.uv = True

    def read_settings(self) -> None:
        """Pass pip's settings on to uv."""
        _, config = self.runner.output(self.layout.python, "-m", "pip", "config", "list")
        self.runner.environ |= uv_settings(config, self.runner.environ)

    def command(self, *arguments: str, index: str = "") -> list[str | Path]:
        """The command that installs `arguments`, from another index than the configured one if `index` is given."""
        python = self.layout.python
        if self.uv:
            tool = ["-m", "uv", "pip", "install", "--python", str(python)]
            return [python, *tool, *(["--default-index", index] if index else []), *arguments]
        quiet = [] if sys.stdout.isatty() else ["--quiet"]  # its bar is for terminals
        tool = ["-m", "pip", "install", *quiet, "--retries", "1"]
        return [python, *tool, *(["--index-url", index] if index else []), *arguments]

    def install(self, *arguments: str, what: str) -> None:
        """Install packages. If uv fails, use pip from then on. Raises: InstallStopped."""
        if self.runner.stream(*self.command(*arguments), doing=f"installing {what}"):
            return
        if self.uv:
            print("      uv failed (see above); trying pip ...", flush=True)
            self.uv = False
            self.install(*arguments, what=what)
            return
        full = disk_problem([self.layout.files, cache_folder(os.environ, self.layout)], GIB // 4)
        hint = full or "See its message above, and check the network connection and the disk space."
        raise InstallStopped(f"pip could not install {what}. {hint} Then start again.")

    def install_lock(self, file: Path, name: str = "") -> None:
        """Install exactly what a lock file lists, checked by hash, without resolving anything. Raises:
        InstallStopped.
        """
        self.install(*self.locked(file), what=f"the packages of {name or file.name}")

    @staticmethod
    def locked(file: Path) -> tuple[str, ...]:
        """The arguments that install a lock file."""
        return ("--require-hashes", "--no-deps", "-r", str(file))

    def uninstall(self, name: str) -> None:
        """Uninstall a package silently; a missing one is no error."""
        self.runner.output(self.layout.python, "-m", "pip", "uninstall", "--yes", name)
