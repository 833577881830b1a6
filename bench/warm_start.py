"""How soon a long chat goes on after a restart: its state from disk, compared with reading the chat again.

`python -m bench warm_start` loads the demo model, lets it reply once in a chat of 8,000 tokens, and unloads it; then
it is loaded again, and the time from the request to the first token of the next turn is measured, with and without
`kv_disk`. Both read the new message of 40 tokens. The system has the file in its cache, as soon after a restart.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time

from bench.figure import Figure, Side, write
from bench.one_stream import default_threads, model_file
from loaders import loader_named
from loaders.base import Model, Request
from loaders.params import SamplingParams

TOKENS, MESSAGE, ROUNDS, N_CTX = 8000, 40, 3, 8448
GREEDY = SamplingParams(do_sample=False, ban_eos_token=True)


def load(threads: int, disk: str) -> Model:
    loader = loader_named("llama.cpp")
    options = {"n_ctx": N_CTX, "threads": threads, "threads_batch": threads, "kv_disk": disk, "cpu": True}
    return loader.load(model_file(), loader.Options.parse(options), lambda *_: True)


def first_token(model: Model, ids: list[int], count: int = 2) -> tuple[float, list[int], int]:
    """Seconds to the first token, all tokens, and how many of the prompt were reused."""
    started = time.perf_counter()
    stream = model.generate(Request(ids, GREEDY, count, label="bench", lasting=True))
    tokens = [next(stream).id]
    seconds = time.perf_counter() - started
    tokens += [token.id for token in stream]
    return seconds, tokens, stream.report.reused_tokens


def main() -> None:
    rounds = int(sys.argv[-1]) if sys.argv[-1].isdigit() else ROUNDS
    threads, draw = default_threads(), random.Random(1)
    cold: list[float] = []
    warm: list[float] = []
    for _ in range(rounds):
        chat = [draw.randrange(40, 40_000) for _ in range(TOKENS)]
        message = [draw.randrange(40, 40_000) for _ in range(MESSAGE)]
        with tempfile.TemporaryDirectory() as folder:
            os.environ["TEXTGEN_KV_DISK"] = folder
            with load(threads, "1GiB") as model:
                _, said, _ = first_token(model, chat, 8)
            turn = [*chat, *said, *message]
            with load(threads, "1GiB") as model:
                seconds, of_warm, reused = first_token(model, turn)
                assert reused >= TOKENS
                warm.append(seconds)
            with load(threads, "0") as model:
                seconds, of_cold, reused = first_token(model, turn)
                assert not reused
                cold.append(seconds)
        print(f"  {warm[-1]:.3f} s against {cold[-1]:.3f} s; the same tokens: {of_warm == of_cold}", flush=True)
    sides = Side("from disk", warm), Side("read again", cold)
    figure = Figure("", f"first token of a chat of {TOKENS:,} tokens", "s", *sides, 0.05, at_most=True)
    write("warm_start", [figure], f"{threads} threads, context {N_CTX:,}.")


if __name__ == "__main__":
    main()
