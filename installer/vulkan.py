"""Whether llama.cpp's Vulkan backend can be compiled with the headers that lie here. It looks, and starts nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

_PLACES = ("/usr", "/usr/local")
_PACKAGES = "Debian, Ubuntu: sudo apt install libvulkan-dev glslc spirv-headers"
#: What llama.cpp uses of Vulkan's C++ header, and older ones lack: Debian 12's does.
_NEEDED = b"LayerSettingEXT"
_SPIRV = ("share/cmake/SPIRV-Headers", "lib/cmake/SPIRV-Headers", "share/pkgconfig/SPIRV-Headers.pc")


def places() -> list[Path]:
    """Where Vulkan's headers may lie: its own kit's folder, and the system's."""
    kit = os.environ.get("VULKAN_SDK")
    return [Path(place) for place in ([kit] if kit else []) + list(_PLACES)]


def problem(folders: Iterable[Path]) -> str:
    """Why it would not compile, as a clause; "" where it may, or where there is no compiler for its programs at all."""
    if shutil.which("glslc") is None:
        return ""
    there = list(folders)
    files = [folder / name / "vulkan" / "vulkan.hpp" for folder in there for name in ("include", "Include")]
    header = next(filter(Path.is_file, files), None)
    if header is None:
        return f"Vulkan's headers are missing ({_PACKAGES})"
    parts = [part for name in ("vulkan_structs.hpp", "vulkan.hpp") if (part := header.with_name(name)).is_file()]
    if not any(_NEEDED in part.read_bytes() for part in parts):
        return "Vulkan's headers here are too old for llama.cpp: they lack VK_EXT_layer_settings"
    if not any((folder / name).exists() for folder in there for name in _SPIRV) and os.name != "nt":
        return f"the SPIR-V headers are missing ({_PACKAGES})"
    return ""
