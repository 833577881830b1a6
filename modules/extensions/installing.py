"""What an extension needs, from its requirements.txt, into the environment of this program; by pip, line by line.

The program's own versions are kept: an extension that wants others is refused by pip, with pip's words. This module
must not import what it installs.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from errors import InvalidInput, Unavailable

#: A package of a lock: its name, and its version with a marker. installer/make_lock.py writes such files.
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]\n]*\])?(==[^\\\n#]+)", re.MULTILINE)


def install(folder: Path, own: Path) -> Iterator[str]:
    """Install an extension's requirements; what pip says, as it says it. `own`: the program's requirements.txt.

    Raises: InvalidInput (there is nothing to install), Unavailable (pip could not).
    """
    wanted = folder / "requirements.txt"
    if not wanted.is_file():
        raise InvalidInput(f"{folder.name} has no requirements.txt: it needs nothing that is not here.")
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
            f"pip could not install what {folder.name} needs: {said} Check the network connection, or mend {wanted}."
        )


def pins(text: str) -> str:
    """A lock without its hashes and comments, as constraints: a package with extras constrains it without them."""
    return "".join(f"{name}{version.rstrip()}\n" for name, version in _PIN.findall(text))


def _constraints(own: Path, folder: Path) -> list[str]:
    """What holds pip to the program's own versions. Not to their hashes: pip would want one of every package then."""
    try:
        text = own.read_text("utf-8")
    except OSError:
        return []
    file = folder / "constraints.txt"
    file.write_text(pins(text), "utf-8")
    return ["-c", str(file)]
