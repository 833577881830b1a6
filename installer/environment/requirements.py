"""requirements.txt: its text, llama.cpp's line, the others, and a fingerprint that shows changes.

It must not know how anything is installed.
"""

from __future__ import annotations

import hashlib
import re

from installer.errors import InstallStopped
from installer.layout import Layout

RECIPE = 2  # increase it when the installer's behaviour changes: every installation is then updated


def read_requirements(layout: Layout) -> bytes:
    """The text of requirements.txt. Raises: InstallStopped if it cannot be read."""
    try:
        return layout.requirements.read_bytes()
    except OSError as error:
        raise InstallStopped(
            f"{layout.requirements} cannot be read. Download the complete project, then start again."
        ) from error


def requirements_fingerprint(layout: Layout) -> str:
    """A fingerprint of an installation; if it differs, the environment is updated."""
    return hashlib.sha256(f"{RECIPE}\n".encode() + read_requirements(layout)).hexdigest()


def llama_requirement(layout: Layout) -> str:
    """The requirement of llama-cpp-python, such as "llama-cpp-python==0.3.36"."""
    found = re.search(r"^llama-cpp-python==[^\s;]+", read_requirements(layout).decode(), re.MULTILINE)
    if not found:
        raise InstallStopped(
            "requirements.txt does not list llama-cpp-python. Download the complete project, then start again."
        )
    return found[0]


def other_requirements(layout: Layout) -> str:
    """requirements.txt without llama.cpp, which is installed separately because its build depends on the machine."""
    text = read_requirements(layout).decode().replace("\r\n", "\n")
    return re.sub(r"^llama-cpp-python==.*\n(?:[ \t].*\n)*", "", text, flags=re.MULTILINE)
