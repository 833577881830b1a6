"""Prints what cannot run on this machine, before anything is downloaded. It must not choose."""

from __future__ import annotations

from collections.abc import Mapping

from installer.hardware.machine import Machine
from installer.hardware.nvidia import format_version
from installer.llama_cpp.llama_builds import GLIBC


def print_limits(gpu: str, here: Machine, ruled_out: Mapping[str, str]) -> None:
    """Print each build that this machine excludes, each reason once, before anything is downloaded."""
    for problem in dict.fromkeys(problem for problem in ruled_out.values() if "there is none for" not in problem):
        names = ", ".join(name for name, each in ruled_out.items() if each == problem)
        print(f"      Not available on this machine: {names}; {problem}.")
    if gpu in "AB" and (2, 0) < here.glibc < GLIBC:
        print(
            f"      This system has glibc {format_version(here.glibc)}; the prebuilt packages for CUDA and ROCm "
            f"require {format_version(GLIBC)} or newer."
        )
    if here.place == "macOS x86_64":
        print(
            "      On Macs with an Intel processor, llama.cpp is compiled, which requires Xcode's command line "
            "tools (xcode-select --install). torch is not available: GGUF models work, other formats and training "
            "do not."
        )
