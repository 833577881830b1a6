"""The number of threads: the one that is fastest here for a model. Knows the machine, and of models only the time per
token.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import psutil

#: Rounds in which each number of threads is timed alternately; the best time of each counts.
_ROUNDS = 4
#: Seconds after which no further round begins.
_PATIENCE = 1.5
#: One more thread must save at least this fraction of a token's time: it takes a core from everything else.
_WORTH = 0.05


def choose_threads(wanted: int) -> tuple[int, str]:
    """How many threads compute before anything was measured, and why.

    llama.cpp's threads wait for each other after every operation, so one that shares its core with another program
    delays all: with as many threads as cores, a browser on the same machine makes a reply several times slower.
    """
    logical, physical = os.cpu_count() or 1, physical_cores()
    if wanted:
        return wanted, f"{format_thread_count(wanted)}, as requested"
    if physical < logical:
        return physical, f"{format_thread_count(physical)}: one per physical core"
    threads = max(physical - 1, 1)
    return threads, f"{threads} of {physical} cores: one is left for the browser and the system"


def physical_cores() -> int:
    """Without the second threads of a core."""
    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def candidate_counts(cores: int) -> list[int]:
    """The numbers of threads worth trying, in ascending order.

    Fewer than all can be faster: memory may be the limit, and some cores may be slow or busy.
    """
    return sorted({max(count, 1) for count in (cores, cores - 1, -(-3 * cores // 4), -(-cores // 2))})


def find_fastest(
    step: Callable[[int], object], counts: Sequence[int], clock: Callable[[], float] = time.perf_counter
) -> tuple[int, str]:
    """The fastest number of threads, and why, as text.

    `step` computes one token with this many threads. `counts`: those to try, in ascending order.
    """
    best = dict.fromkeys(counts, float("inf"))
    for count in counts:  # warm-up: the weights are read from disk, and threads must be started
        step(count)
    began = clock()
    for _ in range(_ROUNDS):
        for count in counts:  # alternately, so that disturbances affect all of them
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
    return chosen, f"{format_thread_count(chosen)}, the fastest for this model: a token takes {times}"


def format_thread_count(threads: int) -> str:
    """The number with its noun."""
    return "1 thread" if threads == 1 else f"{threads} threads"
