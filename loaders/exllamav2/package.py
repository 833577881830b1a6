"""Checks whether exllamav2 can run here, without importing it, torch or a driver, and explains why not."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path

from errors import BrokenPackage, MissingPackage, NoGraphicsCard

_INSTALL = (
    "pip install exllamav2 (it compiles on first use, with CUDA's nvcc), or download the prebuilt wheel for your "
    "versions of Python, torch and CUDA from the releases of turboderp-org/exllamav2 on GitHub"
)


def explain_missing(loader: str) -> str | None:
    """A sentence about what this loader lacks, or None if it may work."""
    for package, install in (("torch", "pip install torch"), ("exllamav2", _INSTALL)):
        if importlib.util.find_spec(package) is None:
            return str(MissingPackage(loader, package, install))
    why = explain_no_gpu()
    return str(NoGraphicsCard(loader, why)) if why else None


def explain_no_gpu() -> str:
    """Why no GPU can be used, as a clause; empty if there may be one."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        version = ""
    if version.endswith("+cpu"):
        return f"the installed torch {version} only supports the CPU (reinstall a build for your GPU)"
    return "" if _driver() else "no driver with a GPU was found"


def wrap_import_error(loader: str, error: BaseException) -> BrokenPackage:
    """The error message for a failed import."""
    told = str(error).strip().splitlines()
    why = f"{type(error).__name__}{': ' + told[0][:200].rstrip('.') if told else ''}"
    return BrokenPackage(loader, "exllamav2", why, f"It must match the versions of torch and CUDA: {_INSTALL}.")


def _driver() -> bool:
    """Whether CUDA's driver counts a GPU, or ROCm's device exists."""
    if "ROCR_VISIBLE_DEVICES" in os.environ or Path("/dev/kfd").exists():
        return True
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        return bool(cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0)
    except (OSError, AttributeError):
        return False
