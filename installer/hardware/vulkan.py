"""Whether llama.cpp's Vulkan backend can be compiled with the installed headers. It only reads and starts nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

_PLACES = ("/usr", "/usr/local")
_PACKAGES = "Debian, Ubuntu: sudo apt install libvulkan-dev glslc spirv-headers"
#: Names that llama.cpp needs from Vulkan's C++ header and older versions lack, such as Debian 12's.
_NEEDED = b"LayerSettingEXT"
_SPIRV = ("share/cmake/SPIRV-Headers", "lib/cmake/SPIRV-Headers", "share/pkgconfig/SPIRV-Headers.pc")


def header_folders() -> list[Path]:
    """Where Vulkan's headers may be: its SDK's folder and the system's."""
    kit = os.environ.get("VULKAN_SDK")
    return [Path(place) for place in ([kit] if kit else []) + list(_PLACES)]


def compile_problem(folders: Iterable[Path]) -> str:
    """Why it would not compile, as a clause; "" if it may, or if the shader compiler is missing."""
    if shutil.which("glslc") is None:
        return ""
    there = list(folders)
    files = [folder / name / "vulkan" / "vulkan.hpp" for folder in there for name in ("include", "Include")]
    header = next(filter(Path.is_file, files), None)
    if header is None:
        return f"the Vulkan headers are missing ({_PACKAGES})"
    parts = [part for name in ("vulkan_structs.hpp", "vulkan.hpp") if (part := header.with_name(name)).is_file()]
    if not any(_NEEDED in part.read_bytes() for part in parts):
        return "the Vulkan headers are too old for llama.cpp: they lack VK_EXT_layer_settings"
    if not any((folder / name).exists() for folder in there for name in _SPIRV) and os.name != "nt":
        return f"the SPIR-V headers are missing ({_PACKAGES})"
    return ""
