"""Worker processes: programs of ours that answer questions by pipes, and may be ended at any moment.

Both sides: how the program starts and ends one, and how the worker bounds its own memory and processor time. It must
not know what is asked.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Exit codes of SIGKILL and SIGTERM: a person or the system ended it, and not what it computed.
KILLED = (-9, -15)

_ROOT = Path(__file__).resolve().parents[1]


def start(module: str) -> subprocess.Popen[bytes]:
    """`python -m MODULE` with pipes to and from it. It ends by itself when its input does. Raises: OSError."""
    # in this program's session: Linux weighs sessions against each other (autogroup), and `nice` only inside of one
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


def end(process: subprocess.Popen[bytes]) -> int:
    """End it at once. Its exit code: the one it had, if it ended before."""
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(OSError):  # what was left to write finds no reader
                pipe.close()
    return process.wait()


def stand_back(memory: int) -> None:
    """What a worker does first: whoever decodes comes before it, and its memory is bounded, in bytes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the program, which ends this by closing the pipe
    if hasattr(os, "nice"):
        os.nice(10)
    bound_memory(memory)


def bound_memory(most: int) -> None:
    """Bound this process as far as the system allows, each bound by itself: macOS refuses the first, and Windows
    knows neither.
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
def bounded(seconds: float) -> Iterator[None]:
    """End this process when the block takes longer: in processor time, or in time where that is not to be had."""
    if hasattr(signal, "ITIMER_PROF"):
        signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends a process that does not handle it
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
