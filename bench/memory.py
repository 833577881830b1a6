"""Resident memory over many loads and unloads, and over many requests of random length, a third of them cancelled.

python -m bench memory             200 loads, 2,000 requests
python -m bench memory 20 200      that many
"""

from __future__ import annotations

import gc
import random
import sys
import threading
from collections.abc import Callable

import psutil

from bench.figure import Figure, Side, write
from bench.one_stream import model_file
from loaders import loader_named
from loaders.base import Model, Request
from loaders.params import SamplingParams

LOADS, REQUESTS = 200, 2000
FIRST = 20  # of each kind, after which memory should stay constant
AT_ONCE = 6


def resident() -> float:
    """Resident MB of this process."""
    gc.collect()
    return float(psutil.Process().memory_info().rss / 1e6)


def load(**options: object) -> Model:
    loader = loader_named("llama.cpp")
    parsed = loader.Options.parse(
        {"n_ctx": 2048, "threads": 1, "threads_batch": 1, "cache_capacity": "16MiB", **options}
    )
    return loader.load(model_file(), parsed, lambda _fraction, _doing: True)


def over(count: int, once: Callable[[int], None]) -> tuple[float, float]:
    """MB after the first rounds, and the highest later value."""
    for i in range(FIRST):
        once(i)
    after_first = most = resident()
    for i in range(FIRST, count):
        once(i)
        if i % 10 == 0 or i == count - 1:
            most = max(most, resident())
        if i % (count // 10) == 0:
            print(f"  {i} of {count}: {most:.0f} MB, {after_first:.0f} after the first {FIRST}", flush=True)
    return after_first, most


def one_load(i: int) -> None:
    """One load, two words, one unload."""
    with load(parallel=1 + i % 4) as model:
        list(model.generate(Request(model.tokenizer.encode("Once upon"), SamplingParams(seed=i), 2)))


def some_requests(model: Model, i: int) -> None:
    """As many requests at once as this engine has slots and two more, each of random length."""
    chance = random.Random(i)

    def ask() -> None:
        ids = [chance.randrange(1000, 40000) for _ in range(int(4 * 20 ** chance.random()))]
        request = Request(ids, SamplingParams(seed=chance.randrange(1000)), int(2 * 16 ** chance.random()))
        stop_at = chance.randrange(6) if chance.random() < 1 / 3 else -1
        if stop_at == 0:
            request.cancel.set()
        for count, _ in enumerate(model.generate(request), 1):
            if count == stop_at:
                request.cancel.set()

    threads = [threading.Thread(target=ask) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def figure(what: str, after_first: float, most: float) -> Figure:
    return Figure(
        "", what, "MB", Side("most later", [most]), Side(f"after the first {FIRST}", [after_first]), 1.05, True
    )


def main() -> None:
    found = [figure(f"{LOADS} loads and unloads", *over(LOADS, one_load))]
    with load(parallel=4) as model:
        rounds = REQUESTS // AT_ONCE
        measured = over(rounds, lambda i: some_requests(model, i))
    found.append(figure(f"{rounds * AT_ONCE} requests, {AT_ONCE} at a time, a third cancelled", *measured))
    write(
        "memory",
        found,
        "The demo model, context 2,048, 16 MiB for copies of idle chats, which are full before measuring begins.",
    )


if __name__ == "__main__":
    sys.exit(main())
