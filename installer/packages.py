"""Packages into the environment: with uv, and where uv does not reach the package index, with pip.

It must not know which packages there are, nor that one of them is llama.cpp.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from installer.disk import GIB, cache_folder, disk_problem
from installer.errors import Stop
from installer.runner import Runner
from installer.variables import uv_settings


class Packages:
    """Installs packages; once uv has failed, pip does the rest."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.layout = runner.layout
        self.uv = True

    def read_settings(self) -> None:
        """Tells uv what pip is set to."""
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
        """Installs packages, or raises Stop; when uv fails, falls back to pip for good."""
        if self.runner.stream(*self.command(*arguments), doing=f"installing {what}"):
            return
        if self.uv:
            print("      uv could not do it (see above); trying with pip ...", flush=True)
            self.uv = False
            self.install(*arguments, what=what)
            return
        full = disk_problem([self.layout.files, cache_folder(os.environ, self.layout)], GIB // 4)
        hint = full or "Its message is above; check the network connection and the space on the disk."
        raise Stop(f"pip could not install {what}. {hint} Then start again.")

    def install_lock(self, file: Path, name: str = "") -> None:
        """Installs exactly what a lock names, each by its hash, and resolves nothing. Raises Stop."""
        self.install(*self.locked(file), what=f"the packages of {name or file.name}")

    @staticmethod
    def locked(file: Path) -> tuple[str, ...]:
        """The arguments that install a lock."""
        return ("--require-hashes", "--no-deps", "-r", str(file))

    def uninstall(self, name: str) -> None:
        """Takes a package out, quietly; that it was not there is no problem."""
        self.runner.output(self.layout.python, "-m", "pip", "uninstall", "--yes", name)
