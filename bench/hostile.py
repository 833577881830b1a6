"""Grammars and chat templates that never end, next to one ordinary stream: does it continue, does the program end?

`python -m bench hostile` measures both kinds; `python -m bench.hostile grammars` (or `templates`) measures one and
writes nothing. Each kind sends HOSTILE requests, as many at a time as the model has slots besides the ordinary stream,
so that queueing is not measured. The figure is the largest gap between two tokens of each of its replies, compared with
the same without them. Then HOSTILE clients connect at once, and the seconds from SIGTERM to the end of the process are
measured.
"""

from __future__ import annotations

import http.client
import itertools
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from bench.api import JSON, body_of, our_server
from bench.figure import Figure, Side, write
from tests.loaders.hostile_grammars import HOSTILE as GRAMMARS

#: Requests, how many at a time, tokens of an ordinary reply, and the longest time for SIGTERM in seconds.
HOSTILE, PLACES, TOKENS, END = 64, 3, 200, 5.0
PROMPT = "Story number one: once upon a time"

TEMPLATES = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a text that doubles": "{% set x = namespace(t='x') %}{% for i in range(90) %}{% set x.t = x.t * 2 %}{% endfor %}",
    "a macro that calls itself": "{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}",
    "a sorted product": "{% for i in range(99999) %}{{ range(99999) | list | sort | join }}{% endfor %}",
}


def requests_of(kind: str) -> Iterator[tuple[str, dict[str, object]]]:
    """Paths and bodies, an endless series."""
    if kind == "grammars":
        for grammar in itertools.cycle(GRAMMARS.values()):
            yield "/v1/completions", {"prompt": "a", "max_tokens": 32, "temperature": 1, "grammar_string": grammar}
    for template in itertools.cycle(TEMPLATES.values()):
        messages = [{"role": "user", "content": "a"}]
        yield "/v1/chat/completions", {"messages": messages, "max_tokens": 8, "instruction_template_str": template}


def gap(host: str) -> float:
    """The largest gap between two tokens of the ordinary stream, in seconds."""
    connection = http.client.HTTPConnection(host, timeout=300)
    connection.request("POST", "/v1/completions", json.dumps(body_of(PROMPT, TOKENS)), JSON)
    times = [time.monotonic() for line in connection.getresponse() if b'"finish_reason": null' in line]
    connection.close()
    if len(times) < TOKENS / 2:
        raise SystemExit(f"the ordinary stream had {len(times)} of {TOKENS} tokens")
    return max(after - before for before, after in itertools.pairwise(times))


@contextmanager
def strangers(host: str, kind: str, clients: int) -> Iterator[tuple[dict[str, int], threading.Event]]:
    """Clients that send requests in a loop while inside; how often each status came, and when HOSTILE were answered."""
    leave, enough = threading.Event(), threading.Event()
    seen: dict[str, int] = {}
    lock = threading.Lock()
    source = requests_of(kind)

    def client() -> None:
        while not leave.is_set():
            with lock:
                path, body = next(source)
            connection = http.client.HTTPConnection(host, timeout=10)
            try:
                connection.request("POST", path, json.dumps(body), JSON)
                status = str(connection.getresponse().status)
            except (OSError, http.client.HTTPException) as error:
                status = type(error).__name__
            finally:
                connection.close()
            with lock:
                seen[status] = seen.get(status, 0) + 1
                if sum(seen.values()) >= HOSTILE:
                    enough.set()

    threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen, enough
    finally:
        leave.set()
        for thread in threads:
            thread.join(15)


def measure(kind: str) -> tuple[list[float], list[float], float, dict[str, int]]:
    """Gaps with and without hostile requests, seconds to the end, and how the hostile requests were answered."""
    with our_server(1, parallel=PLACES + 1) as (host, process):
        gap(host)
        alone = [gap(host) for _ in range(3)]
        beside = []
        with strangers(host, kind, PLACES) as (seen, enough):
            while not enough.is_set():
                beside.append(gap(host))
                print(f"  {kind}: {beside[-1] * 1000:.0f} ms, {sum(seen.values())} answered", flush=True)
        alone += [gap(host) for _ in range(3)]
        with strangers(host, kind, HOSTILE):
            time.sleep(2)
            ended = seconds_to_end(process)
    return alone, beside, ended, seen


def seconds_to_end(process: psutil.Process) -> float:
    began = time.monotonic()
    process.terminate()
    try:
        process.wait(60)
    except psutil.TimeoutExpired:
        process.kill()
    return time.monotonic() - began


def main(kinds: tuple[str, ...] = ("grammars", "templates")) -> None:
    figures, notes = [], []
    for kind in kinds:
        alone, beside, ended, seen = measure(kind)
        figures.append(
            Figure(
                kind, f"largest gap in an ordinary reply while {HOSTILE} hostile {kind} are processed", "ms",
                Side("beside them", [1000 * value for value in beside]),
                Side("alone", [1000 * value for value in alone]), bound=3, at_most=True,
            )
        )  # fmt: skip
        figures.append(
            Figure(
                f"{kind} end", f"from SIGTERM to the end of the process, {HOSTILE} clients with hostile {kind}", "s",
                Side("measured", [ended]), Side("allowed", [END]), bound=1, at_most=True,
            )
        )  # fmt: skip
        load = f"{psutil.getloadavg()[0]:.1f} processes were running or waiting"
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(seen.items()))
        notes.append(
            f"Answers to the {kind} while the ordinary stream ran (a client gives up after 10 s): {statuses}; {load}."
        )
    if len(sys.argv) > 1 and sys.argv[1] in kinds:
        print("\n".join([*(figure.row() for figure in figures), *notes]))
    else:
        write("hostile", figures, " ".join(notes))


if __name__ == "__main__":
    main((sys.argv[1],))
