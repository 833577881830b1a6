"""Tells every Python of an environment where llama.cpp's libraries are: a .pth file that sets LLAMA_CPP_LIB_PATH.

Python reads it at each start, however it is started: by the start scripts, from a shell or by the tests. It is part of
the environment, so that a restored environment uses its own libraries again. A variable that the user has set is not
changed. It must not know what the libraries are or how they got there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from installer.layout import Layout

#: In site-packages.
NAME = "llama_cpp_libraries.pth"
#: In the folder of libraries; written last, so that its presence means the folder is complete.
MANIFEST = "manifest.json"
_TEXT = """import os, sys; os.environ.setdefault("LLAMA_CPP_LIB_PATH", \
os.path.join(os.path.dirname(os.path.realpath(sys.prefix)), "llama", "{folder}"))
"""


def write_pointer(layout: Layout, folder: str) -> None:
    """Point the environment to a folder in installer_files/llama. Raises: OSError."""
    (layout.site_packages / NAME).write_text(_TEXT.format(folder=folder), "utf-8")


def remove_pointer(layout: Layout) -> None:
    """Use the binding's own libraries again. Raises: OSError."""
    for pointer in _pointers(layout.env):
        pointer.unlink(missing_ok=True)


def pointed_folder(env: Path) -> Path | None:
    """The folder that an environment points to, which may no longer exist; None if it points to none."""
    for pointer in _pointers(env):
        if found := re.search(r'"llama", "([^"]+)"', pointer.read_text("utf-8", "replace")):
            return env.parent / "llama" / found[1]
    return None


def is_ours(layout: Layout, folder: str) -> bool:
    """Whether a value of LLAMA_CPP_LIB_PATH was set by a pointer and not by the user."""
    return bool(folder) and Path(folder).parent == Path(os.path.realpath(layout.env)).parent / "llama"


def is_dangling(layout: Layout) -> bool:
    """Whether the environment points to a folder that was moved or deleted."""
    folder = pointed_folder(layout.env)
    return folder is not None and not (folder / MANIFEST).is_file()


def _pointers(env: Path) -> list[Path]:
    return [path for part in ("lib/python3*", "Lib") for path in env.glob(f"{part}/site-packages/{NAME}")]
