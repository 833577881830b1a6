"""The answers that are given beforehand, by environment variables. One that is none is refused before anything is done.

It must not know what an answer leads to.
"""

from __future__ import annotations

import os

from installer.console import is_no, is_yes
from installer.errors import Stop
from installer.gpu import GPUS, parse_gpu

GPU = "GPU_CHOICE"
CUDA_118, CUDA_128 = "USE_CUDA118", "USE_CUDA128"
LAUNCH, NEVER = "LAUNCH_AFTER_INSTALL", "WEBUI_NEVER_INSTALL"
FLAGS = (CUDA_118, CUDA_128, LAUNCH, NEVER)


def check() -> None:
    """Raises: Stop, where an answer is none of those that are allowed."""
    gpu()
    for name in FLAGS:
        flag(name)


def gpu() -> str:
    """The letter of the card, "" where it is not given. Raises: Stop."""
    given = os.environ.get(GPU, "")
    letter = parse_gpu(given)
    if given.strip() and not letter:
        allowed = ", ".join(f"{letter} ({name})" for letter, name in GPUS.items())
        raise Stop(f"{GPU} is {given!r}, but it must be one of {allowed}. Correct it and start again.")
    return letter


def flag(name: str) -> bool | None:
    """Yes or no; None where it is not given. Raises: Stop."""
    given = os.environ.get(name, "")
    if not given.strip():
        return None
    if is_yes(given) or is_no(given):
        return is_yes(given)
    raise Stop(f"{name} is {given!r}, but it must be yes or no. Correct it and start again.")
