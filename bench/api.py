"""The API compared with llama-server, both over HTTP; the API's cost per token; and 64 clients at once.

`python -m bench api` measures all of it, with a soak test of SOAK_SECONDS (300). The peer is that of
bench.llama_server. `python -m bench.api soak 60` and `python -m bench.api overhead` measure one part and write nothing.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from bench.figure import ROOT, Figure, Side, in_turn, write
from bench.llama_server import SAMPLING, TOKENS, Run, ask_peer, llama_server, together
from bench.one_stream import default_threads, model_file

#: Tokens of the replies whose CPU time is compared.
SHORT, LONG = 20, 420
JSON = {"Content-Type": "application/json"}


@contextmanager
def our_server(threads: int, *, parallel: int = 4, n_ctx: int = 8192) -> Iterator[tuple[str, psutil.Process]]:
    """Start our program without the page; yields its host:port and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "server.py", "--nowebui", "--api-port", str(port), "--model", model_file().name,
        "--model-dir", str(model_file().parent), "--threads", str(threads), "--threads-batch", str(threads),
        "--parallel", str(parallel), "--n-ctx", str(n_ctx),
    ]  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, **quiet) as process:
        try:
            host = f"127.0.0.1:{port}"
            for _ in range(600):
                if process.poll() is not None:
                    raise SystemExit("our server ended at the start")
                try:
                    if get(host, "/v1/models")["data"]:
                        break
                except OSError:
                    pass
                time.sleep(0.1)
            yield host, psutil.Process(process.pid)
        finally:
            process.terminate()


def get(host: str, path: str) -> dict[str, list[object]]:
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("GET", path)
    found: dict[str, list[object]] = json.loads(connection.getresponse().read())
    connection.close()
    return found


def body_of(prompt: object, tokens: int) -> dict[str, object]:
    return {"prompt": prompt, "max_tokens": tokens, "stream": True, "seed": 1, "ban_eos_token": True, **SAMPLING}


def ask_api(host: str, prompt: object, tokens: int = TOKENS) -> Run:
    """One streamed reply; every event with text is a token, and the total is checked against the usage."""
    run = Run()
    connection = http.client.HTTPConnection(host, timeout=600)
    body = {**body_of(prompt, tokens), "stream_options": {"include_usage": True}}
    connection.request("POST", "/v1/completions", json.dumps(body), JSON)
    answer = connection.getresponse()
    usage = 0
    for line in answer:
        if line.startswith(b"data: {"):
            if b'"completion_tokens"' in line:
                usage = json.loads(line[6:])["usage"]["completion_tokens"]
            elif b'"finish_reason": null' in line:
                run.note()
    connection.close()
    if not usage or answer.status != 200:
        raise SystemExit(f"our server answered {answer.status} with {usage} tokens")
    run.times += [run.last] * (usage - run.count)  # an incomplete character produces no event
    return run


# --- what it costs ---


def overhead(host: str, process: psutil.Process, streams: int) -> float:
    """CPU milliseconds of the server's process per streamed token, while the engine's process computes.

    The difference between long and short replies, so that what a request costs by itself does not count.
    """
    prompts = [f"Story number {number}: once upon a time" for number in range(streams)]

    def spent(tokens: int) -> tuple[float, int]:
        before = sum(process.cpu_times()[:2])
        _, runs = together(streams, lambda prompt: ask_api(host, prompt, tokens), prompts)  # type: ignore[arg-type]
        return sum(process.cpu_times()[:2]) - before, sum(run.count for run in runs)

    (short, few), (long, many) = spent(SHORT), spent(LONG)
    return (long - short) * 1000 / (many - few)


# --- many at once ---


@dataclass
class Soak:
    """What the clients measured."""

    waits: list[float] = field(default_factory=list)  # seconds to the first token
    replies: int = 0
    hung_up: int = 0
    failures: list[str] = field(default_factory=list)


def soak(host: str, process: psutil.Process, seconds: float, clients: int = 64) -> tuple[Soak, str]:
    """`clients` send requests in a loop; a third of them, chosen at random, are disconnected early."""
    seen, lock = Soak(), threading.Lock()
    end = time.monotonic() + seconds
    before = process.memory_info().rss, process.num_threads()

    def client(number: int) -> None:
        chance = random.Random(number)
        while time.monotonic() < end:
            leave = chance.randrange(1, 24) if chance.random() < 1 / 3 else 0
            began, first, count, whole = time.monotonic(), 0.0, 0, False
            connection = http.client.HTTPConnection(host, timeout=300)
            try:
                prompt = f"Story number {number}, part {chance.randrange(10**6)}: once upon a time"
                connection.request("POST", "/v1/completions", json.dumps(body_of(prompt, 24)), JSON)
                answer = connection.getresponse()
                for line in answer:
                    if line.startswith(b'data: {"error"'):
                        raise OSError(line[:200].decode())
                    if b'"finish_reason": null' in line:
                        first = first or time.monotonic() - began
                        count += 1
                        if count == leave:
                            break
                    whole = whole or line.startswith(b"data: [DONE]")
                with lock:
                    seen.waits += [first] if first else []
                    seen.replies += whole
                    seen.hung_up += bool(leave)
                    if answer.status != 200 or not (whole or count == leave):
                        seen.failures.append(f"status {answer.status} after {count} tokens")
            except OSError as error:
                with lock:
                    seen.failures.append(repr(error)[:200])
            finally:
                connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(min(seconds / 3, 30))
    middle = process.memory_info().rss
    for thread in threads:
        thread.join()
    time.sleep(2)
    after = process.memory_info().rss, process.num_threads()
    if not seen.waits:
        raise SystemExit(f"no request was answered: {seen.failures[:3]}")
    left = len(get(host, "/v1/internal/queue")["queue"])
    notes = (
        f"{clients} clients for {seconds:.0f} s: {seen.replies} replies, {seen.hung_up} hung up, "
        f"{len(seen.failures)} failures {seen.failures[:3] or ''}; {left} left in the queue; "
        f"threads: {before[1]} at the start, {after[1]} at the end; memory {before[0] / 2**20:.0f} MiB at the start, "
        f"{middle / 2**20:.0f} early in it, {after[0] / 2**20:.0f} at the end."
    )
    return seen, notes


def main() -> None:
    threads = int(os.environ.get("BENCH_THREADS", "0")) or default_threads()
    seconds = float(os.environ.get("SOAK_SECONDS", "300"))
    found: list[Figure] = []
    prompts = [f"Story number {i}: once upon a time in a land far away" for i in range(4)]

    def figure(what: str, unit: str, ours: list[float], peer: list[float]) -> Figure:
        return Figure("api", what, unit, Side("our API", ours), Side("llama-server", peer), 1.0, at_most=False)

    with our_server(threads) as (host, process):
        with llama_server(threads, parallel=4, n_ctx=8192) as url:
            a, b = in_turn(7, lambda: ask_api(host, prompts[0]).speed, lambda: ask_peer(url, prompts[0]).speed)  # type: ignore[arg-type]
            found.append(figure("one stream", "tokens/s", a, b))
            a, b = in_turn(
                5,
                lambda: together(4, lambda p: ask_api(host, p), prompts)[0],  # type: ignore[arg-type]
                lambda: together(4, lambda p: ask_peer(url, p), prompts)[0],  # type: ignore[arg-type]
            )
            found.append(figure("4 streams, total", "tokens/s", a, b))
        costs = {streams: [overhead(host, process, streams) for _ in range(5)] for streams in (1, 4)}
        seen, notes = soak(host, process, seconds)
    slowest, median = Side("slowest", [max(seen.waits)]), Side("median", [statistics.median(seen.waits)])
    found.append(Figure("api", "64 clients: time to the first token", "s", slowest, median, 2.0, at_most=True))
    for streams, cost in costs.items():
        sides = Side("the server's process", cost), Side("allowed", [0.15])
        found.append(
            Figure("api", f"CPU time per streamed token, {streams} at a time", "ms", *sides, 1.0, at_most=True)
        )
    write("api", found, f"{threads} threads, context 8,192, 4 sequences, {TOKENS} tokens per reply. {notes}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["overhead"]:
        with our_server(1) as (address, running):
            for count in (1, 4):
                cost = overhead(address, running, count)
                print(f"{count} at a time: {cost:.3f} ms of CPU time per token", flush=True)
    elif sys.argv[1:2] == ["soak"]:
        with our_server(1) as (address, running):
            result, words = soak(address, running, float(sys.argv[2]))
        print(words, f"first token: median {statistics.median(result.waits):.2f} s, slowest {max(result.waits):.2f} s")
    else:
        main()
