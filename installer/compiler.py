"""The machine's C and C++ compilers: whether they work, and what to do if not. It must not know what is compiled."""

from __future__ import annotations

import os
import shutil
import subprocess

from installer.layout import Layout

ADVICE = (
    "Install one (Debian, Ubuntu: sudo apt install build-essential; Fedora: sudo dnf install gcc-c++; "
    "Arch: sudo pacman -S base-devel; macOS: xcode-select --install) and start again."
)


def works(layout: Layout) -> bool:
    """Whether a C and a C++ compiler are there with their headers: a small program of each is compiled."""
    layout.tmp.mkdir(parents=True, exist_ok=True)
    for variable, names, language, header in (
        ("CC", ("cc", "gcc", "clang"), "c", "stdlib.h"),
        ("CXX", ("c++", "g++", "clang++"), "c++", "cstdlib"),
    ):
        compiler = os.environ.get(variable) or next(filter(shutil.which, names), "")
        command = [*compiler.split(), "-x", language, "-", "-o", str(layout.tmp / "compiler-test")]
        source = f"#include <{header}>\nint main(void) {{ return 0; }}\n"
        try:
            subprocess.run(command, input=source, text=True, capture_output=True, timeout=120, check=True)
        except (OSError, subprocess.SubprocessError):
            return False
    return True
