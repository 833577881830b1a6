"""The machine's C and C++ compilers: whether they work, which options they know, and what to do if they are missing.

It must not know what is compiled.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from installer.layout import Layout

ADVICE = (
    "Install one (Debian, Ubuntu: sudo apt install build-essential; Fedora: sudo dnf install gcc-c++; "
    "Arch: sudo pacman -S base-devel; macOS: xcode-select --install) and start again."
)


def works(layout: Layout) -> bool:
    """Whether a C and a C++ compiler are there with their headers: a small program of each is compiled."""
    return _compiles(layout, ())


def accepted(layout: Layout, options: Sequence[str]) -> list[str]:
    """Those of the options that both compilers know; an older one, or another processor's, does not know all."""
    return [option for option in options if _compiles(layout, (option,))]


def _compiles(layout: Layout, options: Sequence[str]) -> bool:
    layout.tmp.mkdir(parents=True, exist_ok=True)
    for variable, names, language, header in (
        ("CC", ("cc", "gcc", "clang"), "c", "stdlib.h"),
        ("CXX", ("c++", "g++", "clang++"), "c++", "cstdlib"),
    ):
        compiler = os.environ.get(variable) or next(filter(shutil.which, names), "")
        command = [*compiler.split(), *options, "-x", language, "-", "-o", str(layout.tmp / "compiler-test")]
        source = f"#include <{header}>\nint main(void) {{ return 0; }}\n"
        try:
            subprocess.run(command, input=source, text=True, capture_output=True, timeout=120, check=True)
        except (OSError, subprocess.SubprocessError):
            return False
    return True
