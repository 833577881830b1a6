"""The engine compared with `examples/server` of llama-cpp-python's source package: a Python server over the same calls.

`python -m bench python_server`. LLAMA_CPP_PYTHON names the unpacked source package. It runs in this environment, with
the same binding, file, threads and context. It is measured over HTTP, ours at the engine.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.figure import Figure, Side, in_turn, write
from bench.llama_server import TOKENS, Run, ask_ours, together
from bench.one_stream import default_threads, model_file
from loaders import loader_named

LENGTH, N_CTX, ROUNDS = 1500, 8192, 5


@contextmanager
def python_server(threads: int) -> Iterator[str]:
    """Start it and yield its address. Raises: SystemExit."""
    script = Path(os.environ.get("LLAMA_CPP_PYTHON", "."), "examples", "server", "server.py")
    if not script.exists():
        raise SystemExit("Set LLAMA_CPP_PYTHON to the unpacked source package of llama-cpp-python.")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = {
        "path": str(model_file()), "alias": "peer", "n_ctx": N_CTX, "n_seq_max": 4, "n_batch": 2048, "n_ubatch": 512,
        "threads": threads, "threads_batch": threads, "kv_unified": True, "use_mmap": True,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        config.write_text(json.dumps({"server": {"host": "127.0.0.1", "port": port}, "model": model}))
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen([sys.executable, str(script), "-C", str(config)], **quiet) as process:
            try:
                url = f"http://127.0.0.1:{port}"
                _wait_for(url, process)
                yield url
            finally:
                process.terminate()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit("The server of llama-cpp-python ended at its start: start it by hand to see why.")
        try:
            urllib.request.urlopen(f"{url}/healthz").close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("The server of llama-cpp-python does not answer.")


def ask(url: str, prompt: list[int], tokens: int = TOKENS) -> Run:
    body = {"model": "peer", "prompt": prompt, "max_tokens": tokens, "stream": True, "seed": 1, "temperature": 0.7}
    body |= {"top_p": 0.9}
    request = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    run = Run()
    with urllib.request.urlopen(request) as answer:
        for line in answer:
            if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["text"]:
                run.note()
    return run


def figures(threads: int) -> list[Figure]:
    loader = loader_named("llama.cpp")
    options = loader.Options.parse({"threads": threads, "threads_batch": threads, "n_ctx": N_CTX, "parallel": 4})
    found: list[Figure] = []
    with loader.load(model_file(), options, lambda *_: True) as model, python_server(threads) as url:
        encode = model.tokenizer.encode
        prompts = [encode(f"Story number {i}: once upon a time in a land far away") for i in range(4)]
        text = encode(" ".join(f"Line {i} of the long tale tells of the {i}th day." for i in range(200)))
        fresh = itertools.count(1000)  # a new first token each time, so that nothing of the prompt is cached

        def figure(what: str, unit: str, values: tuple[list[float], list[float]], *, at_most: bool = False) -> None:
            sides = Side("engine", values[0]), Side("examples/server, HTTP", values[1])
            found.append(Figure("", f"{what}, {threads} thread{'s' * (threads > 1)}", unit, *sides, 1.0, at_most))

        def cold() -> list[int]:
            return [next(fresh), *text[: LENGTH - 1]]

        speeds = in_turn(ROUNDS, lambda: ask_ours(model, prompts[0]).speed, lambda: ask(url, prompts[0]).speed)
        figure("one stream", "tokens/s", speeds)
        totals = in_turn(
            ROUNDS,
            lambda: together(4, lambda prompt: ask_ours(model, prompt), prompts)[0],
            lambda: together(4, lambda prompt: ask(url, prompt), prompts)[0],
        )
        figure("4 streams, total", "tokens/s", totals)
        firsts = in_turn(ROUNDS, lambda: ask_ours(model, cold(), 1).to_first, lambda: ask(url, cold(), 1).to_first)
        figure(f"cold prompt of {LENGTH:,} tokens to the first token", "s", firsts, at_most=True)
    return found


def main() -> None:
    threads = int(os.environ.get("BENCH_THREADS", "0")) or default_threads()
    write("python_server", figures(threads), f"Context {N_CTX:,}, 4 sequences, {TOKENS} tokens per reply.")


if __name__ == "__main__":
    main()
