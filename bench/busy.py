"""A model beside another program that computes: our speed compared with llama-server's, both with all cores.

The same file, threads and prompts, alternately, while a program uses one core, or half of one every fifth of a second.
The peer is that of bench.llama_server.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from bench.figure import Figure, Side, in_turn, write
from bench.llama_server import ask_ours, ask_peer, llama_server, together
from bench.one_stream import model_file
from loaders import loader_named
from loaders.process import load_model

ROUNDS, TOKENS, PROMPT = 5, 64, 1000
#: Its arguments: the seconds that it computes, and those that it sleeps after that.
PROGRAM = (
    "import sys, time\nbusy, idle = map(float, sys.argv[1:])\nwhile True:\n"
    "    end = time.perf_counter() + busy\n    while time.perf_counter() < end: pass\n    time.sleep(idle)"
)
KINDS = {"one core": (60.0, 0.0), "half a core": (0.1, 0.1)}


@contextmanager
def computing(busy: float, idle: float) -> Iterator[None]:
    """Another program that computes meanwhile."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM, str(busy), str(idle)]) as process:
        try:
            yield
        finally:
            process.kill()


def figures() -> list[Figure]:
    threads, loader = psutil.cpu_count(logical=False) or 1, loader_named("llama.cpp")
    options = loader.Options.parse({"threads": threads, "threads_batch": threads, "n_ctx": 8192, "parallel": 4})
    found, fresh = [], itertools.count(1000)
    with (
        load_model(loader, model_file(), options, lambda *_: True) as model,
        llama_server(threads, parallel=4, n_ctx=8192) as url,
    ):
        prompts = [model.tokenizer.encode(f"Story number {i}: once upon a time in a land far away") for i in range(4)]
        text = model.tokenizer.encode(" ".join(f"Line {i} of the tale tells of day {i}." for i in range(200)))

        def cold() -> list[int]:
            return [next(fresh), *text[: PROMPT - 1]]

        for what, (busy, idle) in KINDS.items():
            with computing(busy, idle):
                for name, unit, ours, peer, bound in (
                    (
                        "one stream", "tokens/s", lambda: ask_ours(model, prompts[0], TOKENS).speed,
                        lambda: ask_peer(url, prompts[0], TOKENS).speed, 1.0,
                    ),
                    (
                        "4 streams, total", "tokens/s",
                        lambda: together(4, lambda prompt: ask_ours(model, prompt, TOKENS), prompts)[0],
                        lambda: together(4, lambda prompt: ask_peer(url, prompt, TOKENS), prompts)[0], 1.0,
                    ),
                    (
                        f"a cold prompt of {PROMPT:,} tokens", "s", lambda: ask_ours(model, cold(), 1).to_first,
                        lambda: ask_peer(url, cold(), 1).to_first, 1.0,
                    ),
                ):  # fmt: skip
                    a, b = in_turn(ROUNDS, ours, peer)
                    sides = Side("engine", a), Side("llama-server, HTTP", b)
                    found.append(Figure("", f"{what} used by others: {name}", unit, *sides, bound, unit == "s"))
    return found


def main() -> None:
    write("busy", figures(), f"{TOKENS} tokens per reply, simple-1's samplers, as many threads as cores.")


if __name__ == "__main__":
    main()
