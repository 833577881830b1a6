"""What this machine is, as far as it decides which packages run on it. It looks, and must not know any package."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
from dataclasses import dataclass

from installer import nvidia, vulkan
from installer.nvidia import Card

#: The compilers for graphics cards.
TOOLS = ("nvcc", "hipcc", "glslc")


@dataclass(frozen=True)
class Machine:
    """`system` and `processor` as Python's platform names them; `glibc` is () where there is none, or it is unknown."""

    system: str = "Linux"
    processor: str = "x86_64"
    glibc: tuple[int, ...] = ()
    cards: tuple[Card, ...] = ()
    tools: tuple[str, ...] = ()
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


def look() -> Machine:
    """This machine."""
    no_vulkan = vulkan.problem(vulkan.places())
    tools = tuple(tool for tool in TOOLS if shutil.which(tool) and not (tool == "glslc" and no_vulkan))
    return Machine(platform.system(), platform.machine(), glibc(), nvidia.cards(), tools, no_vulkan)


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
