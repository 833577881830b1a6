"""The machine's C and C++ compilers: whether they work, which options they know, and what to do if they are missing.

It must not know what is compiled.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from installer.layout import Layout

_POSIX = (
    "Install one (Debian, Ubuntu: sudo apt install build-essential; Fedora: sudo dnf install gcc-c++; "
    "Arch: sudo pacman -S base-devel; macOS: xcode-select --install) and start again."
)
_WINDOWS = (
    "Ready-made packages come from abetlen.github.io and github.com: if a firewall, a proxy or a company's network "
    "keeps them away, allow both and start again. The last way is to compile: install Microsoft's Visual Studio Build "
    'Tools with "Desktop development with C++", and start again.'
)
_VSWHERE = r"Microsoft Visual Studio\Installer\vswhere.exe"


def advice(system: str = os.name) -> str:
    """What to do where a compiler is needed and missing; `system` as os.name gives it."""
    return _WINDOWS if system == "nt" else _POSIX


def works(layout: Layout) -> bool:
    """Whether a C and a C++ compiler are there with their headers: a small program of each is compiled.

    Windows' own is on no PATH; its installer says whether it is there.
    """
    return _compiles(layout, ()) or (os.name == "nt" and visual_studio(os.environ.get("PROGRAMFILES(X86)", "")))


def visual_studio(programs: str) -> bool:
    """Whether Visual Studio's installer, in this folder of programs, knows of an installed C++ compiler."""
    wanted = ["-products", "*", "-requires", "Microsoft.VisualStudio.Component.VC.Tools.x86.x64"]
    command = [str(Path(programs) / _VSWHERE.replace("\\", os.sep)), *wanted, "-property", "installationPath"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return bool(ran.stdout.strip())


def version() -> str:
    """What the C compiler says of its version, such as "12"; "" without one."""
    try:
        ran = subprocess.run(
            [*_command("CC").split(), "-dumpversion"], capture_output=True, text=True, errors="replace", timeout=60,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return ran.stdout.strip()


def accepted(layout: Layout, options: Sequence[str]) -> list[str]:
    """Those of the options that both compilers know; an older one, or another processor's, does not know all."""
    return [option for option in options if _compiles(layout, (option,))]


_NAMES = {"CC": ("cc", "gcc", "clang"), "CXX": ("c++", "g++", "clang++")}


def _command(variable: str) -> str:
    return os.environ.get(variable) or next(filter(shutil.which, _NAMES[variable]), "")


def _compiles(layout: Layout, options: Sequence[str]) -> bool:
    layout.tmp.mkdir(parents=True, exist_ok=True)
    for variable, language, header in (("CC", "c", "stdlib.h"), ("CXX", "c++", "cstdlib")):
        compiler = _command(variable)
        command = [*compiler.split(), *options, "-x", language, "-", "-o", str(layout.tmp / "compiler-test")]
        source = f"#include <{header}>\nint main(void) {{ return 0; }}\n"
        try:
            subprocess.run(command, input=source, text=True, capture_output=True, timeout=120, check=True)
        except (OSError, subprocess.SubprocessError):
            return False
    return True
