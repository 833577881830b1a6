"""Installs an extension's requirements.txt into the environment of this program with pip, showing its output.

The program's own versions are kept: pip refuses an extension that needs others. This module must not import what it
installs.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from errors import InvalidInput, Unavailable

#: A package of a lock file: its name, and its version with a marker. installer/make_lock.py writes such files.
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]\n]*\])?(==[^\\\n#]+)", re.MULTILINE)


def install_requirements(folder: Path, own: Path) -> Iterator[str]:
    """Install an extension's requirements and yield pip's output. `own`: the program's requirements.txt.

    Raises: InvalidInput (nothing to install), Unavailable (pip failed).
    """
    wanted = folder / "requirements.txt"
    if not wanted.is_file():
        raise InvalidInput(f"{folder.name} has no requirements.txt; no packages are required.")
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-r", str(wanted)]
    said = ""
    with (
        tempfile.TemporaryDirectory() as scratch,
        subprocess.Popen(
            [*command, *_constraints(own, Path(scratch))],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
        ) as process,
    ):  # fmt: skip
        assert process.stdout
        try:
            for line in process.stdout:
                if line.strip():
                    said = line.strip() if "error" in line.lower() or not said else said
                    yield line.rstrip()
        except GeneratorExit:
            process.terminate()
            raise
    if process.returncode:
        raise Unavailable(
            f"pip could not install the requirements of {folder.name}: {said} Check the network connection, or "
            f"fix {wanted}."
        )


def to_constraints(text: str) -> str:
    """A lock file without hashes and comments, as constraints: for a package without extras."""
    return "".join(f"{name}{version.rstrip()}\n" for name, version in _PIN.findall(text))


def _constraints(own: Path, folder: Path) -> list[str]:
    """Constraints that keep the program's own versions. Without their hashes, or pip would require one for every
    package.
    """
    try:
        text = own.read_text("utf-8")
    except OSError:
        return []
    file = folder / "constraints.txt"
    file.write_text(to_constraints(text), "utf-8")
    return ["-c", str(file)]
