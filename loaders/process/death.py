"""Explains why a model's process ended: by its exit code, its last output, and the system's out-of-memory counter.

It must not know what ran in the process.
"""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from loaders.worker_process import ggml_last_words

#: Messages that a GPU driver or runtime prints before ggml or torch end the program.
_CARD = re.compile(r"((?:CUDA|ROCm|HIP|Vulkan|SYCL|Metal|cuBLAS|MUSA) error:? .+|.*ErrorDeviceLost.*)", re.IGNORECASE)
_NO_MEMORY = re.compile(r"bad_alloc|out of memory|Cannot allocate memory|MemoryError", re.IGNORECASE)
_EXCEPTION = re.compile(r"^\w[\w.]*(?:Error|Exception|Exit|Interrupt)\b.*$")
#: Exit codes of Windows, and the equivalent signals of Linux and macOS.
_WINDOWS = {
    0xC000_0005: "a memory access violation",
    0xC000_001D: "an instruction that this processor does not support",
    0xC000_0017: "memory ran out",
    0xC000_00FD: "a stack overflow",
    0xC000_0409: "a damaged stack",
    0xC000_0374: "a damaged heap",
    0xC000_0135: "a DLL is missing",
}
_SIGNALS = {
    "SIGSEGV": "a memory access violation (SIGSEGV)",
    "SIGBUS": "a file or memory that could not be read (SIGBUS)",
    "SIGILL": "an instruction that this processor does not support (SIGILL)",
    "SIGFPE": "an arithmetic error (SIGFPE)",
    "SIGABRT": "it aborted (SIGABRT)",
    "SIGTERM": "it was terminated from outside (SIGTERM)",
    "SIGKILL": "it was killed (SIGKILL), possibly by the system because memory ran out",
}


def out_of_memory_kills() -> int:
    """How many processes Linux has killed because memory ran out, as far as it reports; 0 on other systems."""
    count = 0
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError, StopIteration):
            count += _counter(Path("/proc/vmstat"))
        with contextlib.suppress(OSError, ValueError, StopIteration, IndexError):
            group = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()[-1].rpartition(":")[2]
            count += _counter(Path("/sys/fs/cgroup") / group.lstrip("/") / "memory.events")
    return count


def _counter(file: Path) -> int:
    lines = file.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def describe_death(code: int, last_lines: Sequence[str], memory_kills: int = 0) -> str:
    """Why a process ended, as a clause. `code` as in subprocess, negative for a signal.

    `memory_kills`: how many processes the system has killed meanwhile because memory ran out.
    """
    killed = code == -getattr(signal, "SIGKILL", 9)
    if killed and memory_kills > 0:
        return "the system killed it because the machine was out of memory"
    if killed or code == -signal.SIGTERM:
        return _name(code)
    lines = [line.strip() for line in last_lines if line.strip()]
    for line in reversed(lines):
        if found := _CARD.search(line):
            return f"the graphics card's driver reported: {_short(found[1])}"
    if said := ggml_last_words("\n".join(lines)):
        sentence, place = said
        return f"llama.cpp aborted: {_short(sentence)} ({place})"
    if any(_NO_MEMORY.search(line) for line in lines[-5:]):
        return "memory ran out"
    if code > 0 and code < 0x8000_0000:
        words = [line for line in lines if _EXCEPTION.match(line)]
        return f"it failed (exit code {code}{': ' + _short(words[-1]) if words else ''})"
    return _name(code)


def _name(code: int) -> str:
    if code == 0:
        return "it exited without an error (exit code 0)"
    if code < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            return _SIGNALS.get(name, f"signal {name}")
    return _WINDOWS.get(code & 0xFFFF_FFFF, f"exit code {code:#x}")


def _short(text: str) -> str:
    return " ".join(text.split()).rstrip(".")[:200]
