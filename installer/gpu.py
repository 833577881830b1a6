"""The graphics cards: the letters that stand for them, and what this machine has.

It looks and gives the reason for what it says. It must not ask or print, and knows nothing of llama.cpp; see choice.py.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

GPUS = {"A": "NVIDIA", "B": "AMD", "C": "Apple M series", "D": "Intel Arc", "N": "none (use the processor only)"}


def parse_gpu(answer: str) -> str:
    """One of the letters of GPUS, or "" for any other answer."""
    letter = answer.strip().upper()
    return letter if letter in GPUS else ""


def pci_cards(drm: Path = Path("/sys/class/drm")) -> list[tuple[str, str]]:
    """(vendor, device) of each graphics card that Linux knows, for example ("0x10de", "0x2684")."""
    cards = []
    for vendor in sorted(drm.glob("card*/device/vendor")):
        with contextlib.suppress(OSError):
            cards.append((vendor.read_text().strip(), vendor.with_name("device").read_text().strip()))
    return cards


def nvidia_card() -> str:
    """The name of the first card that NVIDIA's driver lists, or ""."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r"^GPU \d+: (.+?)(?: \(UUID.*)?$", listed.stdout, re.MULTILINE)
    return found[1] if found and listed.returncode == 0 else ""


def wants_cuda128(card: str) -> bool:
    """Whether an NVIDIA card of this name is of the RTX 50 series or newer, which CUDA before 12.8 does not know."""
    return re.search(r"\bRTX [5-9]0[5-9]0\b|\bBlackwell\b|\bG?B[23]00\b", card) is not None


def detect_gpu(system: str, machine: str, nvidia: str, cards: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """(the letter that fits this machine, the reason in words)."""
    if system == "Darwin":
        return (
            ("C", "this is a Mac with Apple's processor") if machine == "arm64" else ("N", "this is a Mac with Intel")
        )
    if nvidia:
        return "A", f"NVIDIA's driver lists {nvidia}"
    vendors = [vendor for vendor, _ in cards]
    if "0x10de" in vendors:
        return (
            "N",
            "there is an NVIDIA card but its driver does not answer; install the driver, then start with GPU_CHOICE=A",
        )
    if "0x1002" in vendors:
        return "B", "Linux lists an AMD graphics card"
    if any(vendor == "0x8086" and device.lower().startswith(("0x56", "0xe2")) for vendor, device in cards):
        return "D", "Linux lists an Intel Arc card"
    return "N", "no graphics card was found that models can run on"
