"""The graphics cards: the letters that stand for them, and what this machine has.

It looks and gives the reason for what it says. It must not ask or print, and knows nothing of llama.cpp; see choice.py.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

GPUS = {"A": "NVIDIA", "B": "AMD", "C": "Apple M series", "D": "Intel Arc", "N": "none (use the processor only)"}

_NVIDIA, _AMD, _INTEL = "0x10de", "0x1002", "0x8086"
#: Windows' display adapters, each with the driver that it has.
_ADAPTERS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"


def parse_gpu(answer: str) -> str:
    """One of the letters of GPUS, or "" for any other answer."""
    letter = answer.strip().upper()
    return letter if letter in GPUS else ""


def adapters() -> list[tuple[str, str]]:
    """(vendor, device) of each graphics card that the system knows, for example ("0x10de", "0x2684")."""
    return pci_ids(_registered()) if sys.platform == "win32" else pci_cards()


def drivers() -> list[str]:
    """What tells that another driver was installed than before, but for NVIDIA's own (nvidia.py)."""
    return sorted(_registered("DriverVersion")) if sys.platform == "win32" else vulkan_drivers()


def vulkan_drivers(root: Path = Path("/")) -> list[str]:
    """Vulkan's loader and its drivers, each with the time of its file, which is another one after an update."""
    patterns = ("usr/lib*/libvulkan.so.1", "usr/lib/*/libvulkan.so.1", "usr/share/vulkan/icd.d/*", "etc/vulkan/icd.d/*")
    found = []
    for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
        with contextlib.suppress(OSError):
            found.append(f"{path.name} {path.stat().st_mtime:.0f}")
    return found


def pci_cards(drm: Path = Path("/sys/class/drm")) -> list[tuple[str, str]]:
    """Those that Linux knows."""
    cards = []
    for vendor in sorted(drm.glob("card*/device/vendor")):
        with contextlib.suppress(OSError):
            cards.append((vendor.read_text().strip(), vendor.with_name("device").read_text().strip()))
    return cards


def pci_ids(names: Iterable[str]) -> list[tuple[str, str]]:
    r"""Those that Windows names so: PCI\VEN_1002&DEV_73BF&REV_C1; others, of remote desktops for example, are none."""
    found = (re.match(r"PCI\\VEN_([0-9A-F]{4})&DEV_([0-9A-F]{4})", name, re.IGNORECASE) for name in names)
    return [(f"0x{each[1].lower()}", f"0x{each[2].lower()}") for each in found if each]


def _registered(value: str = "MatchingDeviceId") -> Iterator[str]:
    """A value of each display adapter in Windows' registry, or its name. A key that may not be read is left out."""
    registry: Any = importlib.import_module("winreg")
    with contextlib.suppress(OSError), registry.OpenKey(registry.HKEY_LOCAL_MACHINE, _ADAPTERS) as adapters:
        for at in range(registry.QueryInfoKey(adapters)[0]):
            with contextlib.suppress(OSError), registry.OpenKey(adapters, registry.EnumKey(adapters, at)) as adapter:
                yield str(registry.QueryValueEx(adapter, value)[0])


def detect_gpu(system: str, machine: str, nvidia: str, cards: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """(the letter that fits this machine, the reason in words). `nvidia`: the card that its driver lists, or ""."""
    if system == "Darwin":
        return (
            ("C", "this is a Mac with Apple's processor") if machine == "arm64" else ("N", "this is a Mac with Intel")
        )
    if nvidia:
        return "A", f"NVIDIA's driver lists {nvidia}"
    vendors = [vendor for vendor, _ in cards]
    if _NVIDIA in vendors:
        return (
            "N",
            "there is an NVIDIA card but its driver does not answer; install the driver, then start with GPU_CHOICE=A",
        )
    if _AMD in vendors:
        return "B", f"{system} lists an AMD graphics card"
    if any(vendor == _INTEL and device.lower().startswith(("0x56", "0xe2")) for vendor, device in cards):
        return "D", f"{system} lists an Intel Arc card"
    return "N", "no graphics card was found that models can run on"
