"""What this machine is, as far as it decides which packages run on it. It looks, and must not know any package."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
from dataclasses import dataclass

from installer import gpu, nvidia, vulkan
from installer.nvidia import Card

#: The compilers for graphics cards.
TOOLS = ("nvcc", "hipcc", "glslc")


@dataclass(frozen=True)
class Machine:
    """`system` and `processor` as Python's platform names them; `glibc` is () where there is none, or it is unknown.

    `adapters` are the graphics cards as the system numbers them, and `drivers` what tells of their drivers (gpu.py).
    """

    system: str = "Linux"
    processor: str = "x86_64"
    glibc: tuple[int, ...] = ()
    cards: tuple[Card, ...] = ()
    tools: tuple[str, ...] = ()
    adapters: tuple[tuple[str, str], ...] = ()
    drivers: tuple[str, ...] = ()
    no_vulkan: str = ""  # why Vulkan's backend cannot be compiled though its compiler is there

    @property
    def windows(self) -> bool:
        return self.system == "Windows"

    @property
    def place(self) -> str:
        """The system and the processor in one word, as the tables of packages name them, such as "Linux x86_64"."""
        processor = {"amd64": "x86_64", "aarch64": "arm64"}.get(self.processor.lower(), self.processor.lower())
        system = {"Darwin": "macOS"}.get(self.system, self.system)
        return f"{system} {processor}"

    @property
    def mark(self) -> str:
        """A stamp of all of it: where it is another one, what failed before may go well, and is tried again."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


def look() -> Machine:
    """This machine."""
    no_vulkan = vulkan.problem(vulkan.places())
    tools = tuple(tool for tool in TOOLS if shutil.which(tool) and not (tool == "glslc" and no_vulkan))
    return Machine(
        platform.system(), platform.machine(), glibc(), nvidia.cards(), tools,
        tuple(gpu.adapters()), tuple(gpu.drivers()), no_vulkan,
    )  # fmt: skip


def here() -> str:
    """This system and processor, as Machine.place names them. Nothing is asked for it."""
    return Machine(platform.system(), platform.machine()).place


def glibc() -> tuple[int, ...]:
    """The C library's version, such as (2, 36); () on other systems and for other libraries."""
    said = ""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        said = os.confstr("CS_GNU_LIBC_VERSION") or ""
    found = re.search(r"glibc (\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else ()
