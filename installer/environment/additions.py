"""Adds packages to a finished environment: torch and what needs it, or a requirements file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from installer.environment import environment
from installer.environment.fingerprints import fingerprints
from installer.environment.packages import Packages
from installer.environment.swap import change_in_place
from installer.errors import InstallStopped
from installer.layout import Layout
from installer.lock import install_lock
from installer.runner import Runner
from installer.state import read_state, write_state
from installer.torch import torch_packages
from installer.torch.torch_builds import TorchBuild, torch_build


@contextlib.contextmanager
def finished_environment(layout: Layout) -> Iterator[Sequence[int]]:
    """Take the lock and return a finished environment to add to. Raises: InstallStopped."""
    layout.files.mkdir(exist_ok=True)
    with install_lock(layout) as lock:
        if not read_state(layout).get("complete"):
            raise InstallStopped(
                "The installation is not complete, so nothing can be added to it. Start the web UI once, then try "
                "again."
            )
        yield lock


def add_torch(layout: Layout) -> None:
    """Add torch for the loaders and training that need it. Later installations keep it. Raises: InstallStopped."""
    with finished_environment(layout) as lock:
        state = read_state(layout)
        packages = Packages(Runner(layout, lock))
        with change_in_place(layout):
            packages.read_settings()
            torch_packages.add_torch_packages(packages, _torch_of(state), asked=True)
            state |= {"torch": True, "packages": environment.installed_names(layout)}
            if isinstance(state.get("parts"), dict):
                state["parts"] = {**state["parts"], "torch": fingerprints(layout)["torch"]}
            write_state(layout, state)


def _torch_of(state: Mapping[str, Any]) -> TorchBuild:
    return torch_build(state.get("gpu", "N"), bool(state.get("cuda118")), bool(state.get("cuda128")))


def add_requirements(layout: Layout, file: Path) -> None:
    """Add the packages of a requirements file. Raises: InstallStopped."""
    with finished_environment(layout) as lock:
        packages = Packages(Runner(layout, lock))
        packages.read_settings()
        packages.install_lock(file)
