"""torch and what runs on it (requirements-torch.txt) into the environment, on request; then tried.

It is given the build that fits (torch_builds.py), and must not know of cards or questions.
"""

from __future__ import annotations

from installer import environment
from installer.errors import Stop
from installer.packages import Packages
from installer.torch_builds import TORCH_WHEELS, TorchBuild

REQUIREMENTS = "requirements-torch.txt"


def install(packages: Packages, build: TorchBuild) -> None:
    """Raises Stop, where it cannot be had or does not run."""
    print(f"      Installing torch for {build.name}, and what runs on it ...", flush=True)
    if not _torch(packages, build):
        raise Stop(
            f"torch for {build.name} could not be installed (its message is above). Check the network connection and "
            "the space on the disk, and start again."
        )
    packages.install("-r", str(packages.layout.root / REQUIREMENTS), what=f"the packages of {REQUIREMENTS}")
    runs, said = environment.loads(packages.runner, "torch, transformers, peft, xgrammar")
    if not runs:
        raise Stop(f"torch was installed, but does not run here ({said}).")
    print(f"      torch is there, for {build.name}.", flush=True)


def _torch(packages: Packages, build: TorchBuild) -> bool:
    """By pip: uv takes the largest build where an index has several of one version."""
    python, runner = packages.layout.python, packages.runner
    command = [python, "-m", "pip", "install", "--quiet", build.requirement]
    there, _ = runner.output(
        python, "-c", f"import torch; assert torch.__version__.split('+')[0] == '{_version(build)}'"
    )
    if there:
        return True
    if not build.wheels:
        return runner.stream(*command, doing="installing torch")
    index = ["--index-url", f"{TORCH_WHEELS}/{build.wheels}"]  # it has what torch itself needs, too
    patience = {"PIP_DEFAULT_TIMEOUT": "15", "PIP_RETRIES": "0"}
    reached, _ = runner.output(*command, "--dry-run", "--no-deps", *index, **patience)
    if reached:
        return runner.stream(*command, *index, doing="installing torch")
    if build.anywhere:
        print("      PyTorch's own index cannot be reached; taking torch from the usual one ...", flush=True)
        return runner.stream(*command, doing="installing torch")
    return False


def _version(build: TorchBuild) -> str:
    return build.requirement.partition("==")[2]
