"""Configures OpenMP, whose threads compute for llama.cpp: their spinning time and their number.

GCC's runtime gives each thread that has ever computed its own pool, which exists as long as that thread or until it is
ended. If all pools together have more threads than there are cores, it puts threads to sleep at each barrier, some
hundred times per token. So occasional computations run in a short-lived thread, an idle engine ends its pool, and
`SleepingPool` uses it to shorten the spinning on purpose. It must not know llama.cpp.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from pathlib import Path

#: The user's own settings of how threads wait; with one of them, it is not changed while the program runs.
_OWN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
#: omp_pause_soft
_SOFT = 1


@functools.cache
def _runtime() -> ctypes.CDLL | None:
    """GCC's OpenMP runtime that llama.cpp uses, if it can end its threads (GCC 9 and later). Others may have their own
    copy of it, under another name.
    """
    if sys.platform != "linux":
        return None
    lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    found = {line.split(maxsplit=5)[5] for line in lines if "libgomp" in line}
    named = {path for path in found if Path(path).name == "libgomp.so.1"} or found
    if len(named) != 1:
        return None
    library = ctypes.CDLL(named.pop())
    return library if hasattr(library, "omp_pause_resource_all") and hasattr(library, "GOMP_parallel") else None


def can_shorten() -> bool:
    """Whether a `SleepingPool` shortens the spinning here, and the user has not set how threads wait."""
    return not any(name in os.environ for name in _OWN) and _runtime() is not None


def end_pool() -> None:
    """End the threads that have computed for the calling thread; its next computation starts new ones."""
    if runtime := _runtime():
        runtime.omp_pause_resource_all(_SOFT)


class SleepingPool:
    """A pool of this many threads that sleep; while it exists, threads of other pools hardly spin."""

    def __init__(self, threads: int) -> None:
        self._end = threading.Event()
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(threads,), name="OpenMP sleeping pool", daemon=True)
        self._thread.start()
        self._begun.wait()

    def close(self) -> None:
        """End its threads."""
        self._end.set()
        self._thread.join()

    def _run(self, threads: int) -> None:
        runtime = _runtime()
        if runtime:  # free(NULL) does nothing, without Python's lock
            nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)
            runtime.GOMP_parallel(nothing, None, ctypes.c_uint(threads), ctypes.c_uint(0))
        self._begun.set()
        self._end.wait()
        end_pool()
