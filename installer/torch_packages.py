"""torch and what runs on it (requirements-torch.txt) into the environment, on request; then tried.

It is given the build that fits (torch_builds.py), and must not know of cards or questions.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from installer import environment, machine, part, trial
from installer.errors import Stop
from installer.packages import Packages
from installer.torch_builds import TORCH_WHEELS, TorchBuild, exllamav2_wheel

REQUIREMENTS = "requirements-torch.txt"
EXLLAMAV2_REQUIREMENTS = "requirements-exllamav2.txt"


def add(packages: Packages, build: TorchBuild, *, asked: bool) -> bool:
    """Installs torch, tries it, and llama.cpp beside it; whether it is there now. Raises: Stop.

    What nobody asked for may fail with a sentence, and leaves the environment as it was.
    """
    layout = packages.layout
    layout.tmp.mkdir(parents=True, exist_ok=True)
    try:
        if problem := build.problem(environment.python_version(layout.python), machine.here()):
            raise Stop(problem)
        with contextlib.nullcontext() if asked else part.attempted(layout):
            install(packages, build)
            computes, said = trial.computes(packages.runner)  # libraries of CUDA are shared
            if not computes:
                raise Stop(f"With torch for {build.name} beside it llama.cpp does not compute any more ({said}).")
    except Stop as sentence:
        if asked:
            raise
        print(f"      {sentence} llama.cpp works without it; --install-torch tries again.", flush=True)
        return False
    return True


def install(packages: Packages, build: TorchBuild) -> None:
    """Raises Stop, where it cannot be had or does not run."""
    print(f"      Installing torch for {build.name}, and what runs on it ...", flush=True)
    if not _torch(packages, build):
        raise Stop(
            f"torch for {build.name} could not be installed (its message is above). Check the network connection and "
            "the space on the disk, and start again."
        )
    packages.install_lock(packages.layout.root / REQUIREMENTS)
    runs, said = environment.loads(packages.runner, "torch, transformers, peft")
    if not runs:
        raise Stop(f"torch was installed, but does not run here ({said}).")
    print(f"      torch is there, for {build.name}.", flush=True)
    _exllamav2(packages, build)


def _exllamav2(packages: Packages, build: TorchBuild) -> None:
    """ExLlamaV2, where it can run. Without it everything else does: so a failure is a sentence and no end."""
    python = environment.python_version(packages.layout.python)
    wheel = exllamav2_wheel(build, python, windows=os.name == "nt")
    if not wheel:
        return
    needs = packages.layout.root / EXLLAMAV2_REQUIREMENTS
    done = packages.runner.stream(*packages.command(*packages.locked(needs)), doing="installing what ExLlamaV2 needs")
    done = done and packages.runner.stream(*packages.command("--no-deps", wheel), doing="installing ExLlamaV2")
    runs, said = environment.loads(packages.runner, "exllamav2") if done else (False, "its message is above")
    if runs:
        print(f"      ExLlamaV2 is there, for {build.name}.", flush=True)
        return
    packages.uninstall("exllamav2")
    print(f"      ExLlamaV2 could not be installed ({said}); everything else works without it.", flush=True)


def _torch(packages: Packages, build: TorchBuild) -> bool:
    """By pip: uv takes the largest build where an index has several of one version."""
    python, runner = packages.layout.python, packages.runner
    version = build.requirement.partition("==")[2]
    # Builds for different cards have the same version, and differ only behind the plus.
    label = "" if build.anywhere or not build.wheels else f"+{build.wheels}"
    asked = f"assert torch.__version__{'' if label else '.split(chr(43))[0]'} == '{version}{label}'"
    there, _ = runner.output(python, "-c", f"import torch; {asked}")
    if there:
        return True
    quiet = [] if sys.stdout.isatty() else ["--quiet"]  # pip's bar is for terminals
    command: list[str | Path] = [python, "-m", "pip", "install", *quiet, build.requirement + label]
    if not build.wheels:
        return runner.stream(*command, doing="installing torch")
    index = f"{TORCH_WHEELS}/{build.wheels}"  # it has what torch itself needs, too
    # Whether it can be reached pip knows best: it has the user's proxy and certificates.
    if runner.stream(*command, "--index-url", index, "--retries", "1", doing=f"installing torch from {index}"):
        return True
    if build.anywhere:
        print("      Taking torch from the usual index ...", flush=True)
        return runner.stream(*command, doing="installing torch")
    return False
