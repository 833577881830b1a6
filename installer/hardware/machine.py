"""The properties of this machine that decide which packages run on it. It must not know any package."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
from dataclasses import dataclass

from installer.hardware import gpu, nvidia, vulkan
from installer.hardware.nvidia import NvidiaGpu

#: Compilers for GPUs.
TOOLS = ("nvcc", "hipcc", "glslc")


@dataclass(frozen=True)
class Machine:
    """`system` and `processor` as in Python's platform module; `glibc` is () if there is none or it is unknown.

    `adapters` are the GPUs by PCI ID, `drivers` identifies their drivers (gpu.py).
    """

    system: str = "Linux"
    processor: str = "x86_64"
    glibc: tuple[int, ...] = ()
    cards: tuple[NvidiaGpu, ...] = ()
    tools: tuple[str, ...] = ()
    adapters: tuple[tuple[str, str], ...] = ()
    drivers: tuple[str, ...] = ()
    no_vulkan: str = ""  # why the Vulkan backend cannot be compiled although its compiler exists

    @property
    def windows(self) -> bool:
        return self.system == "Windows"

    @property
    def place(self) -> str:
        """System and processor as in the package tables, such as "Linux x86_64"."""
        processor = {"amd64": "x86_64", "aarch64": "arm64"}.get(self.processor.lower(), self.processor.lower())
        system = {"Darwin": "macOS"}.get(self.system, self.system)
        return f"{system} {processor}"

    @property
    def mark(self) -> str:
        """A fingerprint of all of it: if it changes, what failed before is tried again."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


def detect_machine() -> Machine:
    """Detect this machine's properties."""
    no_vulkan = vulkan.compile_problem(vulkan.header_folders())
    tools = tuple(tool for tool in TOOLS if shutil.which(tool) and not (tool == "glslc" and no_vulkan))
    return Machine(
        platform.system(), platform.machine(), glibc_version(), nvidia.list_nvidia_gpus(), tools,
        tuple(gpu.list_pci_gpus()), tuple(gpu.driver_versions()), no_vulkan,
    )  # fmt: skip


def platform_name() -> str:
    """This system and processor as Machine.place names them, without running anything."""
    return Machine(platform.system(), platform.machine()).place


def glibc_version() -> tuple[int, ...]:
    """The version of glibc, such as (2, 36); () on other systems and with other C libraries."""
    said = ""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        said = os.confstr("CS_GNU_LIBC_VERSION") or ""
    found = re.search(r"glibc (\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else ()
