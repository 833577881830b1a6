"""A model on llama-server, asked through our API and straight: what we cost.

`python -m bench remote`. The same client sends the same requests to both, one at a time and 16 together. llama-server
has one thread, as the engine, our server and the client share this machine.
"""

from __future__ import annotations

import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from bench.api import JSON, get
from bench.figure import ROOT, Figure, Side, in_turn, write
from bench.llama_programs import free_port
from bench.llama_server import Run, llama_server, together

TOKENS, MANY, ROUNDS = 128, 16, 5
PROMPT = "Once upon a time there was a lighthouse, and in it lived "


@contextmanager
def our_server(url: str) -> Iterator[tuple[str, psutil.Process]]:
    """Start our program without the page for the model at `url`; yields its host:port and its process."""
    port = free_port()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "server.py", "--nowebui", "--api-port", str(port), "--remote", url,
            "--user-data-dir", folder,
        ]  # fmt: skip
        with subprocess.Popen(command, cwd=ROOT, **quiet) as process:
            try:
                for _ in range(600):
                    if process.poll() is not None:
                        raise SystemExit("our server ended at the start")
                    try:
                        if get(f"127.0.0.1:{port}", "/v1/internal/model/info").get("context_length"):
                            break
                    except OSError:
                        pass
                    time.sleep(0.1)
                yield f"127.0.0.1:{port}", psutil.Process(process.pid)
            finally:
                process.terminate()


def ask(host: str, prompt: str, tokens: int = TOKENS) -> Run:
    """One streamed reply by OpenAI's route, which both have."""
    body = {
        "prompt": prompt, "max_tokens": tokens, "stream": True, "seed": 1, "temperature": 0.7, "top_p": 0.9,
        "top_k": 20, "min_p": 0.0, "ignore_eos": True,
    }  # fmt: skip
    run = Run()
    connection = http.client.HTTPConnection(host, timeout=600)
    connection.request("POST", "/v1/completions", json.dumps(body), JSON)
    answer = connection.getresponse()
    for line in answer:
        if line.startswith(b"data: {") and b'"finish_reason":' in line:
            if b'{"error"' in line:
                raise SystemExit(line.decode())
            run.note()
    connection.close()
    if answer.status != 200 or run.count < tokens * 0.9:  # an incomplete character produces no event
        raise SystemExit(f"{host} answered {answer.status} with {run.count} events")
    return run


def at_once(host: str, prompts: list[str]) -> float:
    return together(len(prompts), lambda prompt: ask(host, prompt), prompts)[0]  # type: ignore[arg-type]


def cpu_per_token(host: str, process: psutil.Process, prompts: list[str]) -> float:
    """Milliseconds of our process for a token, with as many streams as prompts."""
    before = process.cpu_times()
    together(len(prompts), lambda prompt: ask(host, prompt), prompts)  # type: ignore[arg-type]
    after = process.cpu_times()
    spent = after.user + after.system - before.user - before.system
    return spent * 1000 / (len(prompts) * TOKENS)


def main() -> None:
    prompts = [f"{PROMPT}{number}" for number in range(MANY)]
    with llama_server(1, parallel=MANY, n_ctx=512 * MANY) as url, our_server(url) as (ours, process):
        straight = url.removeprefix("http://")
        one = in_turn(ROUNDS, lambda: ask(ours, PROMPT).speed, lambda: ask(straight, PROMPT).speed)
        first = in_turn(
            3 * ROUNDS, lambda: 1000 * ask(ours, PROMPT, 8).to_first, lambda: 1000 * ask(straight, PROMPT, 8).to_first
        )
        many = in_turn(ROUNDS, lambda: at_once(ours, prompts), lambda: at_once(straight, prompts))
        costs = [cpu_per_token(ours, process, each) for each in ([PROMPT], prompts)]
    later = statistics.median(first[0]) - statistics.median(first[1])
    names = ("through us", "straight")
    figures = [
        Figure("remote", "one stream", "tokens/s", *(map(Side, names, one)), 0.98),
        Figure("remote", f"{MANY} streams together", "tokens/s", *(map(Side, names, many)), 0.97),
        Figure("remote", "first token of a cached prompt", "ms", *(map(Side, names, first))),
    ]
    write(
        "remote",
        figures,
        f"The first token comes {later:.1f} ms later (required: at most 5). Our process takes {costs[0]:.3f} ms of "
        f"CPU time for a token with one stream and {costs[1]:.3f} ms with {MANY} (required: at most 0.1).",
    )


if __name__ == "__main__":
    main()
