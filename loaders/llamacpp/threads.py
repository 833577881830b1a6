"""How many threads compute. Knows the machine, and nothing of models."""

from __future__ import annotations

import os

import psutil


def threads_and_reason(wanted: int) -> tuple[int, str]:
    """How many threads compute, and why.

    llama.cpp's threads wait for each other after every operation, so one that has to share its core holds up all: with
    as many threads as cores, a browser on the same machine makes a reply several times slower.
    """
    logical = os.cpu_count() or 1
    physical = psutil.cpu_count(logical=False) or logical
    if wanted:
        return wanted, f"{wanted} {'thread' if wanted == 1 else 'threads'}, as asked"
    if physical < logical:
        return physical, f"{physical} threads: one for each physical core"
    threads = max(physical - 1, 1)
    return threads, f"{threads} of {physical} cores compute: one is left to the browser and the system"
