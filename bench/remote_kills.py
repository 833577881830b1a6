"""2,000 requests over our API while the llama-server behind it is killed and started again 20 times.

Each must end: with its text, or with a sentence, whether it is streamed or not; none may hang. Every client waits a
moment after a refusal, as clients do. `python -m bench remote_kills`; `python -m bench.remote_kills 200 2` does fewer
and writes nothing.
"""

from __future__ import annotations

import collections
import http.client
import json
import random
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field

from bench.api import JSON
from bench.figure import Figure, Side, write
from bench.llama_programs import environment, free_port, program
from bench.one_stream import model_file
from bench.remote import our_server

REQUESTS, KILLS, CLIENTS, TOKENS = 2000, 20, 16, 8
PAUSE = 2.0  # seconds that a client waits after a refusal
HUNG = 60.0  # seconds without a byte


class Server:
    """A llama-server that can be killed and started again at its address."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Returns when it answers."""
        name = program("llama-server")
        command = [
            name, "-m", str(model_file()), "-t", "1", "-tb", "1", "-c", str(256 * CLIENTS), "-np", str(CLIENTS),
            "--kv-unified", "--port", str(self.port), "--no-webui",
        ]  # fmt: skip
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, env=environment(name), stdout=quiet, stderr=quiet)
        for _ in range(1200):
            try:
                urllib.request.urlopen(f"{self.url}/health").close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("llama-server did not start")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@dataclass
class Outcomes:
    """How requests have ended, and the seconds that the longest ones took."""

    count: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: str, seconds: float, detail: str = "") -> None:
        with self.lock:
            self.count[kind] += 1
            self.seconds.append(seconds)
            if detail:
                self.wrong.append(f"{kind}: {detail[:200]}")

    def total(self) -> int:
        with self.lock:
            return sum(self.count.values())


def ask(host: str, number: int) -> tuple[str, str]:
    """How one request ended: (kind, what was wrong); every second one is streamed."""
    streamed = number % 2 == 0
    body = {"prompt": f"{number}. Once upon a time", "max_tokens": TOKENS, "stream": streamed, "seed": number}
    connection = http.client.HTTPConnection(host, timeout=HUNG)
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), JSON)
        answer = connection.getresponse()
        data = answer.read()
    except TimeoutError:
        return "hung", f"nothing for {HUNG:.0f} s"
    except (OSError, http.client.HTTPException) as error:
        return "without an answer", repr(error)
    finally:
        connection.close()
    streamed = streamed and answer.status == 200  # a refusal before the first token is an ordinary answer
    events = [line[6:] for line in data.splitlines() if line.startswith(b"data: ")] if streamed else [data]
    try:
        values = [json.loads(each) for each in events if each != b"[DONE]"]
    except ValueError:
        return "unreadable", data[-200:].decode(errors="replace")
    errors = [value["error"]["message"] for value in values if "error" in value]
    if errors:
        sentence = errors[0]
        some = any(value.get("choices", [{}])[0].get("text") for value in values if "error" not in value)
        kind = "cut, with what came and a sentence" if some else "a sentence"
        return kind, "" if sentence.endswith((".", ". Try again.")) else f"no sentence: {sentence}"
    finishes = [choice["finish_reason"] for value in values for choice in value.get("choices", ())]
    whole = bool(finishes) and finishes[-1] in ("stop", "length") and (not streamed or events[-1] == b"[DONE]")
    return ("text", "") if whole else ("incomplete", data[-200:].decode(errors="replace"))


def measure(requests: int, kills: int) -> tuple[Outcomes, list[float], int]:
    """The outcomes; seconds from each new start of the server to the first whole reply; what is still queued."""
    found, numbers, lock = Outcomes(), iter(range(requests)), threading.Lock()
    server = Server()
    back: list[float] = []
    with our_server(server.url) as (host, _):

        def client() -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                began = time.monotonic()
                kind, detail = ask(host, number)
                found.note(kind, time.monotonic() - began, detail)
                if kind != "text":
                    time.sleep(PAUSE)

        threads = [threading.Thread(target=client, daemon=True) for _ in range(CLIENTS)]
        for each in threads:
            each.start()
        chance = random.Random(1)
        for number in range(kills):
            while found.total() < requests * (number + 0.5) / kills and any(each.is_alive() for each in threads):
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.3))  # anywhere in a reply
            server.kill()
            time.sleep(chance.uniform(0, 0.5))
            server.start()
            started, before = time.monotonic(), found.count["text"]
            while found.count["text"] == before and time.monotonic() - started < HUNG:
                time.sleep(0.01)
            back.append(time.monotonic() - started)
            print(f"  kill {number + 1}: {dict(found.count)}, back after {back[-1]:.2f} s", flush=True)
        for each in threads:
            each.join(2 * HUNG)
        left = sum(each.is_alive() for each in threads)
    server.kill()
    return found, back, left


def main(requests: int = REQUESTS, kills: int = KILLS) -> None:
    found, back, left = measure(requests, kills)
    ended = sum(found.count[kind] for kind in ("text", "a sentence", "cut, with what came and a sentence"))
    ended -= sum(detail.partition(": ")[2].startswith("no sentence") for detail in found.wrong)
    told = ", ".join(f"{count:,} {kind}" for kind, count in found.count.most_common())
    notes = (
        f"{kills} kills, {CLIENTS} clients, replies of {TOKENS} tokens, every second one streamed: {told}; "
        f"{found.count['hung']} hung, {left} clients still waiting at the end. A refused client waits {PAUSE:g} s. "
        f"After a new start, the first whole reply came {statistics.median(back):.1f} s later (median; the longest "
        f"{max(back):.1f} s); the longest request took {max(found.seconds):.1f} s."
    )
    print(notes, *found.wrong[:10], sep="\n")
    if (requests, kills) == (REQUESTS, KILLS):
        sides = Side("ended with text or a sentence", [ended]), Side("sent", [requests])
        write("remote_kills", [Figure("", "requests while the server is killed", "requests", *sides, 1.0)], notes)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
