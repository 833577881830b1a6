"""How many of a model's threads compute, by how many cores other programs use.

llama.cpp's threads wait for each other after every operation, hundreds of times per token. A thread whose core another
program has taken makes all the others wait, and a step takes many times as long: with two threads on two cores beside
one busy program, four times as long as with one thread. So the threads leave other programs the cores that they use,
except in small steps that were measured to be faster all the same (`ThreadTrial`).

`threads` is the upper bound, and the number while the cores are free. It must not know of requests.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

import psutil

from loaders.llamacpp import openmp
from loaders.llamacpp.thread_trial import ThreadTrial

#: The processor time of others is measured over this long, in seconds.
INTERVAL = 0.2
SHORTEST = 0.1
#: Other programs may use this much of a core before a small step leaves it to them: as much as an idle desktop uses.
SPARE = 0.5
#: If they use more than this much of a core, nothing can be measured.
DISTURBING = SPARE
#: A step of this many rows computes long between two barriers: it leaves a core only if others use nearly all of it.
MANY, ALL = 32, 0.9
#: Measurements in a row that leave more cores before more threads compute again.
CALM = 3
#: What counts as use in the system's account of processor time.
_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")
#: As many threads as the user wants.
UNLIMITED = 1 << 16

ResultT = TypeVar("ResultT")


class CoresBusy(Exception):
    """Other programs use the cores, so what is measured says nothing about this machine."""


class Threaded(Protocol):
    """A context whose threads can be limited."""

    def limit_threads(self, most: int) -> None: ...


class CpuUse:
    """The use of these processors by other programs."""

    def __init__(self, cpus: Collection[int] = ()) -> None:
        """`cpus`: their numbers, if this program may not use all of them."""
        self._cpus = cpus
        self._before = self._now()

    def others(self) -> float | None:
        """The number of cores that others have used on average since the last call; None if that was just now."""
        (at, busy, own), now = self._before, self._now()
        if (seconds := now[0] - at) < SHORTEST:  # the system counts in hundredths of a second
            return None
        self._before = now
        return max((now[1] - busy) - (now[2] - own), 0.0) / seconds

    def _now(self) -> tuple[float, float, float]:
        try:
            if self._cpus:
                every = psutil.cpu_times(percpu=True)
                times = [every[at] for at in self._cpus if at < len(every)]
            else:
                times = [psutil.cpu_times()]
        except (OSError, RuntimeError):  # a system that hides them: others use nothing
            return time.monotonic(), 0.0, 0.0
        busy = sum(getattr(each, name, 0.0) for each in times for name in _BUSY)
        return time.monotonic(), busy, time.process_time()


def own_cpus() -> tuple[int, CpuUse]:
    """How many processors this program may use, and their use by others."""
    every = os.cpu_count() or 1
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(every)
    return len(allowed), CpuUse(allowed if len(allowed) < every else ())


def measure_calmly(measure: Callable[[], ResultT], use: CpuUse | None = None) -> ResultT:
    """What `measure` returns, if nothing else uses the cores before it or meanwhile.

    Beside a busy program, threads that wait for each other take many times as long: their times compare nothing.
    Raises: CoresBusy, and whatever `measure` raises.
    """
    use = use or own_cpus()[1]
    time.sleep(SHORTEST)
    if (use.others() or 0.0) > DISTURBING:
        raise CoresBusy
    result = measure()
    if (use.others() or 0.0) > DISTURBING:
        raise CoresBusy
    return result


class ThreadControl:
    """How many threads compute for these contexts. Used by the thread that computes only."""

    def __init__(
        self,
        contexts: Sequence[Threaded],
        use: CpuUse | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._contexts = contexts
        self._cores, measured = own_cpus()
        self._use = use or measured
        self._clock = clock
        self._others = 0.0  # cores that other programs use
        self._next, self._calm = 0.0, 0
        self._limit = UNLIMITED
        self._trial: ThreadTrial | None = None  # while other programs use cores

    def most(self, rows: int) -> int:
        """The largest number of threads for a step of this many rows."""
        if rows >= MANY:
            return self._left(math.floor(self._others + 1 - ALL))
        return self._small(self._others)

    def begin(self) -> None:
        """Call when work begins after a rest: what others used during the rest counts."""
        self._calm, self._next = 0, self._clock() + INTERVAL
        if (others := self._use.others()) is not None:
            self._others = others
        if self.most(1) < UNLIMITED:  # that may be over, so one calm moment is enough
            self._calm, self._next = CALM - 1, self._clock() + SHORTEST

    def adapt(self, rows: int) -> None:
        """Call before each step, with its number of rows."""
        if self._clock() >= self._next:
            self._next = self._clock() + INTERVAL
            if (others := self._use.others()) is not None:
                self._note(others)
        most = self.most(rows)
        if self.most(1) == UNLIMITED:
            self._trial = None
        elif rows < MANY:
            self._trial = self._trial or ThreadTrial()
            most = self._trial.choose(rows, most, UNLIMITED, self._clock())
        if most != self._limit:
            self._limit = most
            for context in self._contexts:
                context.limit_threads(most)

    def note(self, rows: int, seconds: float) -> None:
        """Call after each step: it took this long."""
        if self._trial and rows < MANY:
            self._trial.note(rows, self._limit, seconds)

    def rest(self) -> None:
        """Call when there is nothing to compute: the threads end, so that together with those of other models they do
        not outnumber the cores.
        """
        openmp.end_pool()

    def _note(self, others: float) -> None:
        self._calm = self._calm + 1 if self._small(others) > self.most(1) else 0
        if not self._calm or self._calm >= CALM:
            self._others, self._calm = others, 0

    def _small(self, others: float) -> int:
        return self._left(math.ceil(others - SPARE))

    def _left(self, taken: int) -> int:
        """The cores that are left: at least one."""
        return max(self._cores - taken, 1) if taken > 0 else UNLIMITED
