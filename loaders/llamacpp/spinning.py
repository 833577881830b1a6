"""Chooses how long llama.cpp's threads spin at a barrier before they sleep, by whether other programs use the cores.

While a core is free, long spinning is fastest: a sleeping thread takes some 50 us to wake, at hundreds of barriers per
token. While other programs compete for the cores, a spinning thread takes the time of the one it waits for, and a step
takes many times as long. GCC's OpenMP runtime has one number of spins for the whole process, read at its start, and
spins at most 100 times while its threads outnumber the cores; so a second, sleeping pool of threads makes them sleep.

Only on Linux with GCC's runtime; elsewhere, the runtime's own way to wait is used. It must not know of requests.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from loaders.llamacpp import openmp

ResultT = TypeVar("ResultT")

#: The processor time of others is measured over this long, in seconds.
INTERVAL = 0.2
SHORTEST = 0.1
#: Others compete if they use more than this many cores beyond the free ones.
SPARE = 0.35
#: Measurements without competition in a row before threads spin long again.
CALM = 3


class CpuUse:
    """The use of the processor by other programs, as Linux reports it. Raises: OSError if it does not."""

    def __init__(self, stat: Path = Path("/proc/stat"), load: Path = Path("/proc/loadavg")) -> None:
        self._stat, self._load = stat, load
        self._tick = 1 / os.sysconf("SC_CLK_TCK")
        self._before = self._now()

    def runnable(self) -> int:
        """The number of threads of all programs that are running or want to, at this moment."""
        return int(self._load.read_text().split()[3].partition("/")[0])

    def others(self) -> float:
        """The number of cores that others have used on average since the last call; 0 if that was just now."""
        (at, busy, own), now = self._before, self._now()
        if (seconds := now[0] - at) < SHORTEST:  # the system counts in hundredths of a second
            return 0.0
        self._before = now
        return max((now[1] - busy) - (now[2] - own), 0.0) / seconds

    def _now(self) -> tuple[float, float, float]:
        user, nice, system, _, _, irq, softirq, steal = map(int, self._stat.read_text().split(maxsplit=9)[1:9])
        return time.monotonic(), (user + nice + system + irq + softirq + steal) * self._tick, time.process_time()


class SpinControl:
    """How long the threads of one engine spin. Used by the engine's thread only."""

    def __init__(self, threads: int, use: CpuUse | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """`threads`: how many compute, with the engine's own."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._free = cores - threads
        self._clock = clock
        self._second: openmp.SleepingPool | None = None
        self._next, self._calm = 0.0, 0
        self._use = use
        if use is None and threads > 1 and openmp.can_shorten():
            try:
                self._use = CpuUse()
            except (OSError, ValueError):  # a system that hides its processor times
                self._use = None
        self._size = self._free + 2  # with the engine's pool, one thread more than there are cores

    @property
    def short(self) -> bool:
        """Whether threads sleep almost at once."""
        return self._second is not None

    def begin(self, beside: int = 1) -> None:
        """Call when work begins after a rest. `beside`: threads that run now but not for long, as the sender's."""
        if self._use is None:
            return
        self._next = self._clock() + INTERVAL
        before = self._use.others() > self._free + SPARE
        if self._use.runnable() - 1 > self._free + beside:
            self._shorten()
        elif before:  # during the rest: that may be over, so one calm moment is enough
            self._shorten()
            self._calm, self._next = CALM - 1, self._clock() + SHORTEST

    def adapt(self) -> None:
        """Call before each step."""
        if self._use is None or self._clock() < self._next:
            return
        self._next = self._clock() + INTERVAL
        if self._use.others() > self._free + SPARE:
            self._shorten()
        elif self.short:
            self._calm += 1
            if self._calm >= CALM:
                self._lengthen()

    def rest(self) -> None:
        """Call when there is nothing to compute: the pools end, so that together with those of other models they do not
        outnumber the cores.
        """
        openmp.end_pool()
        self._lengthen()

    def _shorten(self) -> None:
        self._calm = 0
        if self._second is None:
            self._second = openmp.SleepingPool(self._size)

    def _lengthen(self) -> None:
        if self._second is not None:
            self._second.close()
            self._second = None


def run_in_short_thread(compute: Callable[[], ResultT]) -> ResultT:
    """Compute in a thread that ends together with its pool. Raises: what `compute` raises."""
    results: list[ResultT] = []
    errors: list[BaseException] = []
    computed = threading.Event()  # an interrupted join marks the thread as ended

    def run() -> None:
        spins = SpinControl(os.cpu_count() or 1)
        spins.begin(0)
        try:
            results.append(compute())
        except BaseException as error:
            errors.append(error)
        finally:
            spins.rest()
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
