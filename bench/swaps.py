"""Switches between two models by API requests that name them: no memory leak, and no reply from the wrong model.

Four clients request one of two small models of the tests' zoo at random; only one fits at a time. Each reply is
compared with that model's own. `python -m bench swaps` takes half an hour; `python -m bench.swaps 100` stops after 100
loads and writes nothing.
"""

from __future__ import annotations

import http.client
import json
import random
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

from bench.figure import Figure, Side, write
from bench.llama_programs import free_port
from modules.api import launch
from modules.app import App
from tests.zoo import ggufs

SWAPS, CLIENTS = 1000, 4
MODELS = ("llama", "gemma2")


def ask(port: int, model: str) -> tuple[str, str]:
    """The text of a reply, and the model that it names."""
    body = {"prompt": f"[{model}] Once", "model": model, "max_tokens": 8, "do_sample": False, "ban_eos_token": True}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=600)) as connection:
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer: Any = json.loads(connection.getresponse().read())
    if "choices" not in answer:
        return str(answer), ""
    return answer["choices"][0]["text"], answer["model"]


def measure(swaps: int) -> tuple[list[Figure], str]:
    """The figures, and a note."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "models").mkdir()
        names = [ggufs.make(each, Path(folder) / "models").stem for each in MODELS]
        given = ["--nowebui", "--api-port", str(port), "--user-data-dir", folder, "--load-on-demand"]
        app = App.build(Path(__file__).resolve().parents[1], [*given, "--n-ctx", "256", "--threads", "1"])
        served = launch(app)
        alone = {name: ask(port, name) for name in names}
        loads, wrong, replies = 0, [], 0
        own, memory = psutil.Process(), list[int]()
        work = app.models._loading
        original = work._load_model

        def counted(*given: Any) -> Any:
            nonlocal loads
            loads += 1
            return original(*given)

        work._load_model = counted

        def go_on(seed: int) -> None:
            nonlocal replies
            chance = random.Random(seed)
            while loads < swaps:
                name = chance.choice(names)
                if (got := ask(port, name)) != alone[name]:
                    wrong.append((name, got))
                replies += 1

        began = time.monotonic()
        threads = [threading.Thread(target=go_on, args=(seed,)) for seed in range(CLIENTS)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.2)
            print(f"\r  {loads} of {swaps} loads, {len(wrong)} wrong", end="", file=sys.stderr, flush=True)
            if loads >= swaps // 5 and not memory:  # imports and caches of the first requests are loaded
                memory.append(own.memory_info().rss)
        memory.append(own.memory_info().rss)
        took = time.monotonic() - began
        children = len(own.children(recursive=True))
        served.close()
        app.close()
    later, early = Side("at the end", [memory[-1] / 1e6]), Side("after a fifth of the loads", [memory[0] / 1e6])
    right, all_of_them = Side("those of the model that was asked", [replies - len(wrong)]), Side("all", [replies])
    figures = [
        Figure("memory", "the server's memory", "MB", later, early, 1.05, at_most=True),
        Figure("right", "replies", "", right, all_of_them, 1.0),
    ]
    return figures, (
        f"{loads:,} loads, {replies:,} replies of {CLIENTS} clients in {took:.0f} s: {len(wrong)} wrong {wrong[:2]}. "
        f"The server had {children} processes of its own at the end."
    )


def main(swaps: int = SWAPS) -> None:
    figures, notes = measure(swaps)
    print(*(figure.row() for figure in figures), notes, sep="\n")
    if swaps == SWAPS:
        write("swaps", figures, notes)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
