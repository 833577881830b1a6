"""Answers to the installer's questions from environment variables, checked before anything is done.

It must not know what an answer leads to.
"""

from __future__ import annotations

import os

from installer.console import is_no, is_yes
from installer.errors import InstallStopped
from installer.hardware.gpu import GPUS, parse_gpu

GPU = "GPU_CHOICE"
CUDA_118, CUDA_128 = "USE_CUDA118", "USE_CUDA128"
LAUNCH, NEVER = "LAUNCH_AFTER_INSTALL", "WEBUI_NEVER_INSTALL"
FLAGS = (CUDA_118, CUDA_128, LAUNCH, NEVER)


def check_answers() -> None:
    """Check all answers. Raises: InstallStopped for an invalid one."""
    preset_gpu()
    for name in FLAGS:
        preset_flag(name)


def preset_gpu() -> str:
    """The letter of the GPU, "" if not given. Raises: InstallStopped."""
    given = os.environ.get(GPU, "")
    letter = parse_gpu(given)
    if given.strip() and not letter:
        allowed = ", ".join(f"{letter} ({name})" for letter, name in GPUS.items())
        raise InstallStopped(f"{GPU} is {given!r}, but it must be one of {allowed}. Correct it, then start again.")
    return letter


def preset_flag(name: str) -> bool | None:
    """Yes or no; None if not given. Raises: InstallStopped."""
    given = os.environ.get(name, "")
    if not given.strip():
        return None
    if is_yes(given) or is_no(given):
        return is_yes(given)
    raise InstallStopped(f"{name} is {given!r}, but it must be yes or no. Correct it, then start again.")
