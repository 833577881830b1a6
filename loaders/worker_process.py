"""Worker processes: programs of ours that answer requests through pipes and may be killed at any moment.

Both sides: how the program starts and ends one, and how the worker limits its own memory and CPU time. It must not know
what is requested.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Exit codes of SIGKILL and SIGTERM: a person or the system ended it, not its own computation.
KILLED = (-9, -15)

#: Last messages of ggml: "/path/ggml.c:123: GGML_ASSERT(n > 0) failed", or the same with a sentence.
_GGML = re.compile(r"^\S+?[/\\]?([\w.-]+\.\w+):(\d+): (.+)$", re.MULTILINE)

_PDEATHSIG = 1  # prctl's PR_SET_PDEATHSIG
_ROOT = Path(__file__).resolve().parents[1]


def start_worker(module: str) -> subprocess.Popen[bytes]:
    """`python -m MODULE` with pipes to and from it. It ends when its input is closed. Raises: OSError."""
    # in this program's session: Linux schedules sessions against each other (autogroup), and `nice` only has an effect
    # inside one
    more: dict[str, Any] = {}
    if sys.platform == "win32":
        more = {"creationflags": subprocess.CREATE_NO_WINDOW}
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=_ROOT,
        env={**os.environ, "PYTHONFAULTHANDLER": ""},
        **more,
    )


def stop_worker(process: subprocess.Popen[bytes]) -> int:
    """Kill it. Returns its exit code, also if it had ended before."""
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(OSError):  # pending output has no reader
                pipe.close()
    return process.wait()


def ggml_last_words(printed: str) -> tuple[str, str] | None:
    """Why ggml ended a process, from its output: (the sentence, "FILE:LINE"); None if it does not say."""
    words = _GGML.findall(printed)
    said = [each for each in words if "GGML_ASSERT" in each[2]] or words
    return (said[-1][2], f"{said[-1][0]}:{said[-1][1]}") if said else None


def end_with(owner: int) -> bool:
    """Called first by a process that must not outlive the thread that started it: Linux then kills it with that, even
    if it is busy outside Python. False if this owner's process is gone already.
    """
    if sys.platform != "linux":
        return True
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == owner


def lower_priority(memory: int) -> None:
    """Called first by a worker: gives decoding priority, and limits the worker's memory, in bytes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the program, which ends this by closing the pipe
    if hasattr(os, "nice"):
        os.nice(10)
    limit_memory(memory)


def limit_memory(most: int) -> None:
    """Limit this process's memory as far as the system allows: macOS refuses one of the limits, and Windows has
    neither.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    for name, wanted in (("RLIMIT_AS", most), ("RLIMIT_CORE", 0)):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            least = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)  # a lower one of the user's stays
            resource.setrlimit(kind, (least, least))


@contextlib.contextmanager
def limit_time(seconds: float) -> Iterator[None]:
    """Kill this process if the block takes longer: in CPU time, or in wall time if that is not available."""
    if hasattr(signal, "ITIMER_PROF"):
        signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends a process without a handler
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    else:
        faulthandler.dump_traceback_later(seconds * 3, exit=True)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
