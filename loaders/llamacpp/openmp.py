"""Ends the pools of OpenMP, whose threads compute for llama.cpp.

GCC's runtime gives each thread that has ever computed its own pool, which exists as long as that thread or until it is
ended. If all pools together have more threads than there are cores, it puts threads to sleep at each barrier, some
hundred times per token. So occasional computations run in a short-lived thread, and an idle engine ends its pool. It
must not know llama.cpp.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

ResultT = TypeVar("ResultT")

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
    return library if hasattr(library, "omp_pause_resource_all") else None


def end_pool() -> None:
    """End the threads that have computed for the calling thread; its next computation starts new ones."""
    if runtime := _runtime():
        runtime.omp_pause_resource_all(_SOFT)


def run_in_short_thread(compute: Callable[[], ResultT]) -> ResultT:
    """Compute in a thread that ends together with its pool. Raises: what `compute` raises."""
    results: list[ResultT] = []
    errors: list[BaseException] = []
    computed = threading.Event()  # an interrupted join marks the thread as ended

    def run() -> None:
        try:
            results.append(compute())
        except BaseException as error:
            errors.append(error)
        finally:
            end_pool()
            computed.set()

    thread = threading.Thread(target=run, name="llama.cpp in passing", daemon=True)
    try:
        thread.start()
        computed.wait()
    except KeyboardInterrupt:  # the caller would free what the thread is still using
        computed.wait()
        raise
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
