"""Checks whether the packages of the HF loaders are installed, without importing them, and explains what is missing."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence

from errors import MissingPackage

#: One command for all: requirements-torch.txt through the installer, which knows the machine's torch build.
_SCRIPTS = {"win32": "start_windows.bat", "darwin": "./start_macos.sh"}
INSTALL = f"{_SCRIPTS.get(sys.platform, './start_linux.sh')} --install-torch (in this program's folder)"

NEEDED = ("torch", "transformers", "tokenizers", "safetensors")


def explain_missing(loader: str, packages: Sequence[str] = NEEDED) -> str | None:
    """A sentence about what this loader lacks, or None if it may work."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            return str(MissingPackage(loader, package, INSTALL))
    return None


@contextlib.contextmanager
def explain_import_errors(who: str) -> Iterator[None]:
    """Convert a missing package while inside to a sentence. Raises: MissingPackage."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackage(who, error.name or "torch", INSTALL) from None
