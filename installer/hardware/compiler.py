"""The C and C++ compilers: whether they work, which options they accept, and what to do if they are missing.

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
    "Install one (Debian, Ubuntu: sudo apt install build-essential; Fedora: sudo dnf install gcc-c++; Arch: sudo "
    "pacman -S base-devel; macOS: xcode-select --install), then start again."
)
_WINDOWS = (
    "Prebuilt packages come from abetlen.github.io and github.com: if a firewall, proxy or company network blocks "
    "them, allow both, then start again. Otherwise llama.cpp must be compiled: install Microsoft's Visual Studio "
    'Build Tools with "Desktop development with C++", then start again.'
)
_VSWHERE = r"Microsoft Visual Studio\Installer\vswhere.exe"


def advise_compiler(system: str = os.name) -> str:
    """What to do if a compiler is needed but missing; `system` is os.name."""
    return _WINDOWS if system == "nt" else _POSIX


def has_compilers(layout: Layout) -> bool:
    """Whether a C and a C++ compiler work and have their headers, tested by compiling a small program with each.

    On Windows, Microsoft's compiler is not on PATH; Visual Studio's installer knows whether it is installed.
    """
    return _compiles(layout, ()) or (os.name == "nt" and has_visual_studio(os.environ.get("PROGRAMFILES(X86)", "")))


def has_visual_studio(programs: str) -> bool:
    """Whether the Visual Studio installer in this Program Files folder lists an installed C++ compiler."""
    wanted = ["-products", "*", "-requires", "Microsoft.VisualStudio.Component.VC.Tools.x86.x64"]
    command = [str(Path(programs) / _VSWHERE.replace("\\", os.sep)), *wanted, "-property", "installationPath"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return bool(ran.stdout.strip())


def compiler_version() -> str:
    """The C compiler's version, such as "12"; "" if there is none."""
    try:
        ran = subprocess.run(
            [*_command("CC").split(), "-dumpversion"], capture_output=True, text=True, errors="replace", timeout=60,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return ran.stdout.strip()


def accepted_options(layout: Layout, options: Sequence[str]) -> list[str]:
    """The options that both compilers accept; older compilers and those for other processors do not accept all."""
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
