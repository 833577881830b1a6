"""Configures OpenMP, whose threads compute for llama.cpp: their spinning time and their number.

GCC's runtime gives each thread that has ever computed its own pool, which exists as long as that thread. If all pools
together have more threads than there are cores, it puts threads to sleep at each barrier, some hundred times per token:
on two cores a reply was then half as fast. So occasional computations run in a short-lived thread. Must be imported
before llama.cpp's library, and knows nothing of it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeVar

ResultT = TypeVar("ResultT")

#: How often a thread checks whether the others have arrived before it sleeps. GCC's default is 300,000, about 3 ms:
#: equally fast if the cores are idle (two cores: 120 tokens/s from 700 on, 90 with 200), but with five other busy
#: programs 1 to 4 tokens/s, compared with 15 to 30 for 700.
_SPINS = "700"


def limit_spinning() -> None:
    """Set it, unless the user has set how threads wait."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)


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
