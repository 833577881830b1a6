"""What tells every Python of an environment where llama.cpp's libraries lie: a .pth file that sets LLAMA_CPP_LIB_PATH.

Python reads it at each start, however it was started: by the start scripts, from a shell, or by the tests. It belongs
to the environment, so that one that is set aside and brought back has its own libraries again. Whoever has set the
variable keeps what he set. It must not know what the libraries are, or how they came there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from installer.layout import Layout

#: In site-packages.
NAME = "llama_cpp_libraries.pth"
#: In the folder of libraries; written last, so that where it lies all lies.
MANIFEST = "manifest.json"
_TEXT = """import os, sys; os.environ.setdefault("LLAMA_CPP_LIB_PATH", \
os.path.join(os.path.dirname(os.path.realpath(sys.prefix)), "llama", "{folder}"))
"""


def write(layout: Layout, folder: str) -> None:
    """Points the environment to a folder of installer_files/llama. Raises: OSError."""
    (layout.site_packages / NAME).write_text(_TEXT.format(folder=folder), "utf-8")


def remove(layout: Layout) -> None:
    """The binding's own libraries count again. Raises: OSError."""
    for pointer in _pointers(layout.env):
        pointer.unlink(missing_ok=True)


def libraries(env: Path) -> Path | None:
    """The folder that an environment points to, which may be gone; None where it points to none."""
    for pointer in _pointers(env):
        if found := re.search(r'"llama", "([^"]+)"', pointer.read_text("utf-8", "replace")):
            return env.parent / "llama" / found[1]
    return None


def is_ours(layout: Layout, folder: str) -> bool:
    """Whether a value of LLAMA_CPP_LIB_PATH was set by a pointer, and not by the user."""
    return bool(folder) and Path(folder).parent == Path(os.path.realpath(layout.env)).parent / "llama"


def dangles(layout: Layout) -> bool:
    """Whether the environment points to a folder that was moved or thrown away."""
    folder = libraries(layout.env)
    return folder is not None and not (folder / MANIFEST).is_file()


def _pointers(env: Path) -> list[Path]:
    return [path for part in ("lib/python3*", "Lib") for path in env.glob(f"{part}/site-packages/{NAME}")]
