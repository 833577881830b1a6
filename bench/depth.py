"""Cold prompts and the speed after them, compared with llama-server's defaults: alone, and next to idle chats.

`python -m bench depth` measures prompts of 1,500 tokens with one thread and with all cores, and of 6,000 tokens with
all cores (three rounds); `python -m bench.depth 3000` uses another length and writes nothing. The peer is that of
bench.llama_server.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

import psutil

from bench.figure import Figure, Side, in_turn, write
from bench.llama_server import Run, ask_ours, ask_peer, llama_server
from bench.one_stream import model_file
from loaders import loader_named
from loaders.process import load_model

LENGTH, LONG, REPLY, IDLE = 1500, 6000, 48, 10
N_CTX = 16384

Ask = Callable[[list[int], int], Run]


def figures(threads: int, length: int, rounds: int = 5) -> list[Figure]:
    """Measure both sides. Raises: SystemExit if the peer is not installed."""
    loader = loader_named("llama.cpp")
    options = loader.Options.parse({"threads": threads, "threads_batch": threads, "n_ctx": N_CTX, "parallel": 4})
    found: list[Figure] = []
    with (
        load_model(loader, model_file(), options, lambda *_: True) as model,
        llama_server(threads, parallel=4, n_ctx=N_CTX) as url,
    ):
        print("\n".join(model.notes), flush=True)
        text = model.tokenizer.encode(" ".join(f"Line {i} of the tale tells of the {i}th day." for i in range(900)))
        fresh = itertools.count(1000)  # a new first token for each prompt, so that nothing of it is cached

        def cold(ask: Ask, tokens: int) -> Run:
            return ask([next(fresh), *text[: length - 1]], tokens)

        def ours(prompt: list[int], tokens: int) -> Run:
            return ask_ours(model, prompt, tokens)

        def peer(prompt: list[int], tokens: int) -> Run:
            return ask_peer(url, prompt, tokens)

        for idle in (0, IDLE):
            for _ in range(idle):
                for ask in (ours, peer):
                    ask([next(fresh), *text[:300]], 4)
            speeds: dict[Ask, list[float]] = {ours: [], peer: []}

            def measured(ask: Ask, speeds: dict[Ask, list[float]] = speeds) -> float:
                run = cold(ask, REPLY)
                speeds[ask].append(run.speed)
                return run.to_first

            first = in_turn(rounds, lambda: measured(ours), lambda: measured(peer))
            beside = f", {idle} idle chats" if idle else ""
            where = f"{threads} thread{'s' * (threads > 1)}{beside}"
            sides = Side("ours", first[0]), Side("llama-server", first[1])
            found.append(
                Figure(
                    "", f"cold prompt of {length:,} tokens to the first token, {where}", "s", *sides, 1.0, at_most=True
                )
            )
            sides = Side("ours", speeds[ours]), Side("llama-server", speeds[peer])
            found.append(Figure("", f"tokens/s after {length:,} tokens, {where}", "tokens/s", *sides, 1.5))
    return found


def main() -> None:
    length = int(sys.argv[1]) if sys.argv[1:] and sys.argv[1].isdigit() else LENGTH
    cores = psutil.cpu_count() or 1
    found = [figure for threads in sorted({1, cores}) for figure in figures(threads, length)]
    if length == LENGTH:
        found += figures(cores, LONG, rounds=3)
        write("depth", found, "The model's proxy against llama-server over HTTP. Not measured: 6,000 tokens, 1 thread.")
    else:
        print("\n".join(figure.row() for figure in found))


if __name__ == "__main__":
    main()
