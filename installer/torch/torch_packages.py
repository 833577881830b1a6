"""Installs torch and what needs it (requirements-torch.txt) on request, and tests them.

It is given the build that fits (torch_builds.py) and must not know of GPUs or questions.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from installer.environment import environment, in_place_update, smoke_test
from installer.environment.packages import Packages
from installer.errors import InstallStopped
from installer.hardware import machine
from installer.torch.torch_builds import TORCH_WHEELS, TorchBuild, exllamav2_wheel

REQUIREMENTS = "requirements-torch.txt"
EXLLAMAV2_REQUIREMENTS = "requirements-exllamav2.txt"


def add_torch_packages(packages: Packages, build: TorchBuild, *, asked: bool) -> bool:
    """Install torch and test it together with llama.cpp; returns whether it is installed now. Raises: InstallStopped.

    If nobody asked for it, a failure prints a sentence and leaves the environment unchanged.
    """
    layout = packages.layout
    layout.tmp.mkdir(parents=True, exist_ok=True)
    try:
        if problem := build.problem(environment.python_version(layout.python), machine.platform_name()):
            raise InstallStopped(problem)
        with contextlib.nullcontext() if asked else in_place_update.change_or_restore(layout):
            install_torch_packages(packages, build)
            computes, said = smoke_test.can_compute(packages.runner)  # CUDA libraries are shared
            if not computes:
                raise InstallStopped(f"llama.cpp no longer works with torch for {build.name} installed ({said}).")
    except InstallStopped as sentence:
        if asked:
            raise
        print(f"      {sentence} llama.cpp works without it; run --install-torch to try again.", flush=True)
        return False
    return True


def install_torch_packages(packages: Packages, build: TorchBuild) -> None:
    """Install torch's packages. Raises: InstallStopped if they are not available or do not run."""
    print(f"      Installing torch for {build.name} and packages that use it ...", flush=True)
    if not _torch(packages, build):
        raise InstallStopped(
            f"torch for {build.name} could not be installed (see its message above). Check the network connection "
            "and the disk space, then start again."
        )
    packages.install_lock(packages.layout.root / REQUIREMENTS)
    runs, said = environment.can_import(packages.runner, "torch, transformers, peft")
    if not runs:
        raise InstallStopped(f"torch was installed but does not work here ({said}).")
    print(f"      torch is installed, for {build.name}.", flush=True)
    _exllamav2(packages, build)


def _exllamav2(packages: Packages, build: TorchBuild) -> None:
    """Install ExLlamaV2 where it can run. Everything else works without it, so a failure only prints a sentence."""
    python = environment.python_version(packages.layout.python)
    wheel = exllamav2_wheel(build, python, windows=os.name == "nt")
    if not wheel:
        return
    needs = packages.layout.root / EXLLAMAV2_REQUIREMENTS
    done = packages.runner.stream(
        *packages.command(*packages.locked(needs)), doing="installing the requirements of ExLlamaV2"
    )
    done = done and packages.runner.stream(*packages.command("--no-deps", wheel), doing="installing ExLlamaV2")
    runs, said = environment.can_import(packages.runner, "exllamav2") if done else (False, "its message is above")
    if runs:
        print(f"      ExLlamaV2 is installed, for {build.name}.", flush=True)
        return
    packages.uninstall("exllamav2")
    print(f"      ExLlamaV2 could not be installed ({said}); everything else works without it.", flush=True)


def _torch(packages: Packages, build: TorchBuild) -> bool:
    """With pip: uv takes the largest build if an index has several of one version."""
    python, runner = packages.layout.python, packages.runner
    version = build.requirement.partition("==")[2]
    # Builds for different GPUs have the same version and differ only after the plus sign.
    label = "" if build.anywhere or not build.wheels else f"+{build.wheels}"
    asked = f"assert torch.__version__{'' if label else '.split(chr(43))[0]'} == '{version}{label}'"
    there, _ = runner.output(python, "-c", f"import torch; {asked}")
    if there:
        return True
    quiet = [] if sys.stdout.isatty() else ["--quiet"]  # pip's progress bar is for terminals
    command: list[str | Path] = [python, "-m", "pip", "install", *quiet, build.requirement + label]
    if not build.wheels:
        return runner.stream(*command, doing="installing torch")
    index = f"{TORCH_WHEELS}/{build.wheels}"  # it has torch's own dependencies, too
    # pip knows best whether it can be reached: it has the user's proxy and certificates.
    if runner.stream(*command, "--index-url", index, "--retries", "1", doing=f"installing torch from {index}"):
        return True
    if build.anywhere:
        print("      Installing torch from the default index ...", flush=True)
        return runner.stream(*command, doing="installing torch")
    return False
