"""Whether what the HF loaders need is installed, asked without importing it, and the words for when it is not."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence

from errors import MissingPackage

#: One command for all of them: requirements-torch.txt, through the installer, which knows the machine's build of torch.
_SCRIPTS = {"win32": "start_windows.bat", "darwin": "./start_macos.sh"}
INSTALL = f"{_SCRIPTS.get(sys.platform, './start_linux.sh')} --install-torch (in this program's folder)"

NEEDED = ("torch", "transformers", "tokenizers", "safetensors")


def missing(loader: str, packages: Sequence[str] = NEEDED) -> str | None:
    """One sentence on what this loader lacks, or None when it can be tried."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            return str(MissingPackage(loader, package, INSTALL))
    return None


@contextlib.contextmanager
def explained(who: str) -> Iterator[None]:
    """Let a package that is missing in the block be a sentence. Raises: MissingPackage."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackage(who, error.name or "torch", INSTALL) from None
