"""Which card to install for: given, as last time, asked or detected. It must not know what is installed for a card."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from typing import Any

from installer import gpu as cards
from installer.console import ask, is_no, is_yes
from installer.errors import Stop
from installer.gpu import GPUS, parse_gpu


def choose_gpu(state: Mapping[str, Any]) -> dict[str, Any]:
    """The answers to the questions: from the environment, else from last time, else asked, else detected."""
    terminal = sys.stdin is not None and sys.stdin.isatty()
    given = os.environ.get("GPU_CHOICE", "")
    gpu = parse_gpu(given)
    if given and not gpu:
        raise Stop(f"GPU_CHOICE is {given!r}, but it must be one of {', '.join(GPUS)}. Correct it and start again.")
    if not gpu and (gpu := parse_gpu(str(state.get("gpu", "")))):
        print(f"      As last time: {gpu}, {GPUS[gpu]} (GPU_CHOICE overrides it).")
    if not gpu:
        gpu, reason = cards.detect_gpu(platform.system(), platform.machine(), cards.nvidia_card(), cards.pci_cards())
        if terminal:
            print("\nWhat is your GPU?\n" + "\n".join(f"  {letter}) {name}" for letter, name in GPUS.items()))
            print(f"Recommended: {gpu}, because {reason}.")
            gpu = ask(f"Answer [{gpu}]: ", parse_gpu, gpu)
        else:
            print(f"      Chosen by itself: {gpu}, {GPUS[gpu]}, because {reason} (GPU_CHOICE overrides it).")
    cuda118 = gpu == "A" and bool(state.get("cuda118", False))
    if gpu == "A" and "USE_CUDA118" in os.environ:
        cuda118 = is_yes(os.environ["USE_CUDA118"])
    elif gpu == "A" and terminal and "cuda118" not in state:
        question = "Use CUDA 11.8 instead of 12.1? Only for very old cards (Kepler or older). [y/N]: "
        cuda118 = ask(question, lambda text: "y" if is_yes(text) else "n" if is_no(text) else "", "n") == "y"
    answer: dict[str, Any] = {"gpu": gpu, "cuda118": cuda118}
    if gpu == "A" and not cuda118 and _newest(state):
        answer["cuda128"] = True
    return answer


def _newest(state: Mapping[str, Any]) -> bool:
    """Whether CUDA 12.8 is needed: by USE_CUDA128, as last time, or because the card says so."""
    if "USE_CUDA128" in os.environ:
        return is_yes(os.environ["USE_CUDA128"])
    card = cards.nvidia_card()
    if cards.wants_cuda128(card):
        print(f"      CUDA 12.8, because older ones do not know the {card} (USE_CUDA128=no overrides it).")
        return True
    return bool(state.get("cuda128", False)) and not card
