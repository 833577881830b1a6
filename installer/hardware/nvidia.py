"""NVIDIA GPUs as their driver lists them: name, compute capability, driver version.

It runs nvidia-smi and nothing else. It must not know which packages run on the result; see cuda.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

#: For drivers that do not report it: the compute capability by name; the first match counts.
_BY_NAME: tuple[tuple[str, tuple[int, int]], ...] = (
    (r"\bRTX 50[5-9]0|\bRTX PRO \d+.*Blackwell", (12, 0)),
    (r"\bG?B[23]00\b", (10, 0)),
    (r"\bG?H[12]00\b", (9, 0)),
    (r"\bRTX 40[5-9]0|\bAda\b|\bL40S?\b|\bL4\b", (8, 9)),
    (r"\bA100\b|\bA30\b", (8, 0)),
    (r"\bRTX 30[5-9]0|\bRTX A\d+|\bA(?:2|10|16|40)\b", (8, 6)),
    (r"\bRTX 20[5-9]0|\bGTX 16\d0|\bQuadro RTX|\bTITAN RTX|\bT4\b", (7, 5)),
    (r"\bV100\b|\bTITAN V\b", (7, 0)),
    (r"\bP100\b", (6, 0)),
    (r"\bGT(?:X)? 10\d0|\bTITAN X[Pp]|\bP40\b|\bP4\b|\bQuadro P\d+|\bMX1[15]0\b", (6, 1)),
    (r"\bGTX 9[5-8]0|\bTITAN X\b|\bM40\b|\bM60\b|\bM4\b|\bQuadro M\d+", (5, 2)),
    (r"\bGTX 7[45]0|\b9[34]0M\b|\bGTX 850|\bGTX 860M", (5, 0)),
    (r"\bK80\b", (3, 7)),
    (r"\bGTX 7[678]0|\bGT 7[1-4]0|\bTITAN\b|\bK[24]0\b", (3, 5)),
    (r"\bGTX 6\d0|\bGT 6\d0", (3, 0)),
)


@dataclass(frozen=True)
class NvidiaGpu:
    """One GPU. Unknown values are (): the compute capability, such as (8, 6), and the driver's version."""

    name: str
    capability: tuple[int, ...] = ()
    driver: tuple[int, ...] = ()


def list_nvidia_gpus() -> tuple[NvidiaGpu, ...]:
    """The GPUs that NVIDIA's driver lists; () if there is no driver or it does not respond."""
    for tool in _tools(os.environ, windows=sys.platform == "win32"):
        for fields in (("name", "compute_cap", "driver_version"), ("name", "driver_version")):
            said = _said(tool, f"--query-gpu={','.join(fields)}", "--format=csv,noheader")
            found = tuple(filter(None, (_card(line, fields) for line in said.splitlines())))
            if found:
                return found
        if listed := tuple(NvidiaGpu(name, capability_by_name(name)) for name in _names(_said(tool, "-L"))):
            return listed
    return ()


def capability_by_name(name: str) -> tuple[int, ...]:
    """The compute capability of a GPU by its name; () if unknown."""
    return next((capability for pattern, capability in _BY_NAME if re.search(pattern, name)), ())


def parse_version(text: str) -> tuple[int, ...]:
    """("550.54.15") -> (550, 54, 15); () for anything else, such as "[N/A]"."""
    return tuple(map(int, text.split("."))) if re.fullmatch(r"\d+(\.\d+)*", text.strip()) else ()


def format_version(numbers: tuple[int, ...]) -> str:
    """(550, 54) -> "550.54"."""
    return ".".join(map(str, numbers))


def _tools(environ: Mapping[str, str], *, windows: bool) -> Iterator[str]:
    """Where nvidia-smi may be: on PATH, in the driver's folders (not always on PATH), under WSL."""
    if found := shutil.which("nvidia-smi"):
        yield found
    if windows:
        places = (
            Path(environ.get("SYSTEMROOT", "C:\\Windows")) / "System32" / "nvidia-smi.exe",
            Path(environ.get("PROGRAMFILES", "C:\\Program Files")) / "NVIDIA Corporation" / "NVSMI" / "nvidia-smi.exe",
        )
    else:
        places = (Path("/usr/bin/nvidia-smi"), Path("/usr/lib/wsl/lib/nvidia-smi"))
    yield from (str(place) for place in places if str(place) != found and place.exists())


def _said(*command: str) -> str:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return ran.stdout if ran.returncode == 0 else ""


def _card(line: str, fields: tuple[str, ...]) -> NvidiaGpu | None:
    """One line of the table as a GPU; None if it is not one."""
    name, *values = line.rsplit(",", len(fields) - 1)
    if len(values) != len(fields) - 1 or not re.search("[A-Za-z]", name):
        return None
    told = {field: parse_version(value) for field, value in zip(fields[1:], values, strict=True)}
    if not any(told.values()):
        return None
    return NvidiaGpu(name.strip(), told.get("compute_cap") or capability_by_name(name), told["driver_version"])


def _names(listed: str) -> list[str]:
    return re.findall(r"^GPU \d+: (.+?)(?: \(UUID.*)?$", listed, re.MULTILINE)
