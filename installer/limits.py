"""What this machine rules out, said before anything is fetched. It must not choose."""

from __future__ import annotations

from collections.abc import Mapping

from installer.llama_builds import GLIBC
from installer.machine import Machine
from installer.nvidia import written


def say_limits(gpu: str, here: Machine, ruled_out: Mapping[str, str]) -> None:
    """What this machine rules out, before anything is fetched: each reason once."""
    for problem in dict.fromkeys(problem for problem in ruled_out.values() if "there is none for" not in problem):
        names = ", ".join(name for name, each in ruled_out.items() if each == problem)
        print(f"      Not for this machine: {names}; {problem}.")
    if gpu in "AB" and (2, 0) < here.glibc < GLIBC:
        print(
            f"      This system's glibc is {written(here.glibc)}; the ready-made packages for CUDA and ROCm are made "
            f"for {written(GLIBC)} and newer."
        )
    if here.place == "macOS x86_64":
        print(
            "      On a Mac with Intel's processor llama.cpp is compiled here, which needs Xcode's command line tools "
            "(xcode-select --install). There is no torch for it: GGUF models run, other formats and training do not."
        )
