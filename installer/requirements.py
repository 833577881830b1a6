"""requirements.txt: its text, llama.cpp's line, the rest, and the stamp by which a change is noticed.

It must not know how anything is installed.
"""

from __future__ import annotations

import hashlib
import re

from installer.errors import Stop
from installer.layout import Layout

RECIPE = 2  # raise it when the installer does something differently: every installation is then brought up to date


def read(layout: Layout) -> bytes:
    """What requirements.txt says; raises Stop where it cannot be read."""
    try:
        return layout.requirements.read_bytes()
    except OSError as error:
        raise Stop(f"{layout.requirements} cannot be read; get the complete project and start again.") from error


def fingerprint(layout: Layout) -> str:
    """What an installation was made from; where it differs, the environment is brought up to date."""
    return hashlib.sha256(f"{RECIPE}\n".encode() + read(layout)).hexdigest()


def llama(layout: Layout) -> str:
    """The requirement of llama-cpp-python, such as "llama-cpp-python==0.3.36"."""
    found = re.search(r"^llama-cpp-python==[^\s;]+", read(layout).decode(), re.MULTILINE)
    if not found:
        raise Stop("requirements.txt does not name llama-cpp-python; get the complete project and start again.")
    return found[0]


def others(layout: Layout) -> str:
    """requirements.txt without llama.cpp, which is installed by itself, as it depends on the machine."""
    text = read(layout).decode().replace("\r\n", "\n")
    return re.sub(r"^llama-cpp-python==.*\n(?:[ \t].*\n)*", "", text, flags=re.MULTILINE)
