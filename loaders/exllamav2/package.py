"""Whether exllamav2 can run here, and the words for when it cannot. Asks without importing it, torch or a driver."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path

from errors import BrokenPackage, MissingPackage, NoGraphicsCard

_INSTALL = (
    "pip install exllamav2 (it compiles itself at the first start, with CUDA's nvcc), or take the ready-made wheel "
    "for your versions of Python, torch and CUDA from the releases of turboderp-org/exllamav2 on GitHub"
)


def missing(loader: str) -> str | None:
    """One sentence on what this loader lacks, or None when it can be tried."""
    for package, install in (("torch", "pip install torch"), ("exllamav2", _INSTALL)):
        if importlib.util.find_spec(package) is None:
            return str(MissingPackage(loader, package, install))
    why = no_card()
    return str(NoGraphicsCard(loader, why)) if why else None


def no_card() -> str:
    """Why no graphics card can be used, as a clause; empty where one may be there."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        version = ""
    if version.endswith("+cpu"):
        return f"the installed torch {version} computes on the CPU alone (reinstall with a build for your card)"
    return "" if _driver() else "no driver with a card was found"


def broken(loader: str, error: BaseException) -> BrokenPackage:
    """The error for an import that failed, in words."""
    told = str(error).strip().splitlines()
    why = f"{type(error).__name__}{': ' + told[0][:200].rstrip('.') if told else ''}"
    return BrokenPackage(loader, "exllamav2", why, f"It must fit the versions of torch and CUDA: {_INSTALL}.")


def _driver() -> bool:
    """Whether CUDA's driver counts a card, or ROCm's device is there."""
    if "ROCR_VISIBLE_DEVICES" in os.environ or Path("/dev/kfd").exists():
        return True
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        return bool(cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0)
    except (OSError, AttributeError):
        return False
