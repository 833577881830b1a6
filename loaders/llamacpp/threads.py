"""How many threads compute: as many as are quickest here for a model. Knows the machine, and of models only the time
that a token takes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import psutil

#: Rounds in which each number of threads is timed, in turn; the best time of each counts.
_ROUNDS = 4
#: Seconds after which no other round begins.
_PATIENCE = 1.5
#: One more thread has to save at least this share of a token's time: it takes a core from everything else.
_WORTH = 0.05


def threads_and_reason(wanted: int) -> tuple[int, str]:
    """How many threads compute before anything was measured, and why.

    llama.cpp's threads wait for each other after every operation, so one that has to share its core holds up all: with
    as many threads as cores, a browser on the same machine makes a reply several times slower.
    """
    logical, physical = os.cpu_count() or 1, physical_cores()
    if wanted:
        return wanted, f"{counted(wanted)}, as asked"
    if physical < logical:
        return physical, f"{counted(physical)}: one for each physical core"
    threads = max(physical - 1, 1)
    return threads, f"{threads} of {physical} cores compute: one is left to the browser and the system"


def physical_cores() -> int:
    """Without the second threads of a core."""
    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def candidates(cores: int) -> list[int]:
    """The numbers of threads that are worth trying, in ascending order.

    Fewer than all can be quicker: memory may be the limit, some cores may be slow ones, or busy with something else.
    """
    return sorted({max(count, 1) for count in (cores, cores - 1, -(-3 * cores // 4), -(-cores // 2))})


def measured(
    step: Callable[[int], object], counts: Sequence[int], clock: Callable[[], float] = time.perf_counter
) -> tuple[int, str]:
    """The number of threads that is quickest, and why, in words.

    `step` computes one token with so many threads. `counts`: those to try, in ascending order.
    """
    best = dict.fromkeys(counts, float("inf"))
    for count in counts:  # uncounted: the weights come from the disk, and threads have to be started
        step(count)
    began = clock()
    for _ in range(_ROUNDS):
        for count in counts:  # in turn: what disturbs one disturbs the others
            started = clock()
            step(count)
            best[count] = min(best[count], clock() - started)
        if clock() - began > _PATIENCE:
            break
    chosen = counts[0]
    for count in counts:
        if best[count] < best[chosen] * (1 - _WORTH):
            chosen = count
    times = ", ".join(f"{best[count] * 1000:.1f} ms with {count}" for count in counts)
    return chosen, f"{counted(chosen)}, the quickest here for this model: a token takes {times}"


def counted(threads: int) -> str:
    """The number with its noun."""
    return "1 thread" if threads == 1 else f"{threads} threads"
