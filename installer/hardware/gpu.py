"""The GPUs of this machine, and the letters of the installer's menu for them.

It returns what it finds with the reason. It must not ask or print and knows nothing of llama.cpp; see gpu_choice.py.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

GPUS = {"A": "NVIDIA", "B": "AMD", "C": "Apple M series", "D": "Intel Arc", "N": "none (CPU only)"}

_NVIDIA, _AMD, _INTEL = "0x10de", "0x1002", "0x8086"
#: Windows' display adapters with their drivers.
_ADAPTERS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"


def parse_gpu(answer: str) -> str:
    """A letter of GPUS, or "" for any other answer."""
    letter = answer.strip().upper()
    return letter if letter in GPUS else ""


def list_pci_gpus() -> list[tuple[str, str]]:
    """(vendor, device) of each GPU that the system lists, such as ("0x10de", "0x2684")."""
    return parse_pci_ids(_registered()) if sys.platform == "win32" else read_drm_ids()


def driver_versions() -> list[str]:
    """Values that change when a driver is installed, except NVIDIA's (see nvidia.py)."""
    return sorted(_registered("DriverVersion")) if sys.platform == "win32" else list_vulkan_drivers()


def list_vulkan_drivers(root: Path = Path("/")) -> list[str]:
    """The Vulkan loader and drivers with their file times, which change with an update."""
    patterns = ("usr/lib*/libvulkan.so.1", "usr/lib/*/libvulkan.so.1", "usr/share/vulkan/icd.d/*", "etc/vulkan/icd.d/*")
    found = []
    for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
        with contextlib.suppress(OSError):
            found.append(f"{path.name} {path.stat().st_mtime:.0f}")
    return found


def read_drm_ids(drm: Path = Path("/sys/class/drm")) -> list[tuple[str, str]]:
    """The GPUs that Linux lists."""
    cards = []
    for vendor in sorted(drm.glob("card*/device/vendor")):
        with contextlib.suppress(OSError):
            cards.append((vendor.read_text().strip(), vendor.with_name("device").read_text().strip()))
    return cards


def parse_pci_ids(names: Iterable[str]) -> list[tuple[str, str]]:
    r"""The GPUs in Windows' notation, PCI\\VEN_1002&DEV_73BF&REV_C1; virtual adapters (remote desktop) are skipped."""
    found = (re.match(r"PCI\\VEN_([0-9A-F]{4})&DEV_([0-9A-F]{4})", name, re.IGNORECASE) for name in names)
    return [(f"0x{each[1].lower()}", f"0x{each[2].lower()}") for each in found if each]


def _registered(value: str = "MatchingDeviceId") -> Iterator[str]:
    """A value of each display adapter in the Windows registry, or its name. Unreadable keys are skipped."""
    registry: Any = importlib.import_module("winreg")
    with contextlib.suppress(OSError), registry.OpenKey(registry.HKEY_LOCAL_MACHINE, _ADAPTERS) as adapters:
        for at in range(registry.QueryInfoKey(adapters)[0]):
            with contextlib.suppress(OSError), registry.OpenKey(adapters, registry.EnumKey(adapters, at)) as adapter:
                yield str(registry.QueryValueEx(adapter, value)[0])


def detect_gpu(system: str, machine: str, nvidia: str, cards: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """(the letter that fits this machine, the reason as text). `nvidia`: the card that NVIDIA's driver lists, or ""."""
    if system == "Darwin":
        return (
            ("C", "this is a Mac with an Apple processor")
            if machine == "arm64"
            else ("N", "this is a Mac with an Intel processor")
        )
    if nvidia:
        return "A", f"the NVIDIA driver lists {nvidia}"
    vendors = [vendor for vendor, _ in cards]
    if _NVIDIA in vendors:
        return (
            "N",
            "there is an NVIDIA GPU, but its driver does not respond; install the driver, then start with GPU_CHOICE=A",
        )
    if _AMD in vendors:
        return "B", f"{system} lists an AMD GPU"
    if any(vendor == _INTEL and device.lower().startswith(("0x56", "0xe2")) for vendor, device in cards):
        return "D", f"{system} lists an Intel Arc GPU"
    return "N", "no supported GPU was found"
