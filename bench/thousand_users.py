"""A simulation of the queue in front of engines for a thousand users, with step times that are measured here.

`python -m bench thousand_users` measures how long a step of llama-server takes with 1 to 32 streams, and what a prompt
costs; then it simulates the users, with these and with assumed step times, and writes the table into docs/cluster.md.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import random
import re
import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.figure import ROOT
from bench.llama_server import ask_peer, llama_server, together

STREAMS = (1, 2, 4, 8, 16, 32)
USERS, PAUSE, REPLY = 1000, 90.0, 300  # seconds from a reply to the next message, and tokens, both on average
PROMPT = 150  # tokens of a message that no cache has: the earlier ones of its chat are at the engine
SECONDS, WARMING = 7200.0, 1800.0  # long enough for an overloaded queue to become stationary
#: An assumption, not a measurement: one GPU with a model of 8 billion parameters. Milliseconds, and prompt tokens/s.
ASSUMED = (20.4, 20.8, 21.6, 23.2, 26.4, 32.8), 5000.0
DOCUMENT = ROOT / "docs" / "cluster.md"
HEAD = (
    "| step times | engines | replies at a time | tokens/s of all | first token: median | 95 % | tokens/s of a reply: "
    "median | slowest 5 % |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
)


@dataclass(frozen=True)
class Costs:
    """Seconds of a step by the number of streams in it (STREAMS), and prompt tokens per second."""

    steps: Sequence[float]
    prompts: float

    def step(self, streams: int) -> float:
        at = min(max(bisect.bisect_left(STREAMS, streams), 1), len(STREAMS) - 1)
        (left, right), (low, high) = STREAMS[at - 1 : at + 1], self.steps[at - 1 : at + 1]
        return low + (high - low) * (streams - left) / (right - left)


@dataclass
class Reply:
    asked: float
    left: int  # tokens
    length: int
    first: float = 0.0


@dataclass
class Engine:
    """All that run get one token a step."""

    waiting: deque[Reply] = field(default_factory=deque)
    running: list[Reply] = field(default_factory=list)

    @property
    def load(self) -> int:
        return len(self.waiting) + len(self.running)


def simulate(engines: int, costs: Costs) -> list[float]:
    """After the warm-up: replies at a time, tokens/s of all; median and 95 % of the seconds to the first token; median
    and slowest 5 % of the tokens/s of a reply. A message goes to the engine with the fewest, as our loader sends it.

    Replies that have not ended at the end count as well: with the wait until then, and the speed so far. Without them,
    the longest waits of an overloaded engine would be left out.
    """
    chance, order, all_engines = random.Random(1), itertools.count(), [Engine() for _ in range(engines)]
    events: list[tuple[float, int, Engine | None]] = [
        (chance.uniform(0, PAUSE), next(order), None) for _ in range(USERS)
    ]
    heapq.heapify(events)
    waits: list[float] = []
    speeds: list[float] = []
    tokens, busy, last = 0, 0.0, WARMING

    def begin(engine: Engine, now: float) -> None:
        """Admit what has a place, process its prompts, then compute a step."""
        new = min(len(engine.waiting), STREAMS[-1] - len(engine.running))
        engine.running += [engine.waiting.popleft() for _ in range(new)]
        if engine.running:
            took = new * PROMPT / costs.prompts + costs.step(len(engine.running))
            heapq.heappush(events, (now + took, next(order), engine))

    while events[0][0] < SECONDS:
        now, _, engine = heapq.heappop(events)
        if now > WARMING:
            busy, last = busy + (now - last) * sum(each.load for each in all_engines), now
        if engine is None:  # a user sends a message
            engine = min(all_engines, key=lambda each: (each.load, chance.random()))
            length = max(2, round(chance.expovariate(1 / REPLY)))
            engine.waiting.append(Reply(now, length, length))
            if engine.load == 1:
                begin(engine, now)
            continue
        for reply in engine.running:
            reply.left -= 1
            reply.first = reply.first or now
            tokens += now > WARMING
            if not reply.left:
                heapq.heappush(events, (now + chance.expovariate(1 / PAUSE), next(order), None))
                if reply.asked > WARMING:
                    waits.append(reply.first - reply.asked)
                    speeds.append((reply.length - 1) / (now - reply.first))
        engine.running = [reply for reply in engine.running if reply.left]
        begin(engine, now)
    for reply in (each for engine in all_engines for each in (*engine.waiting, *engine.running)):
        if reply.asked > WARMING:
            waits.append((reply.first or SECONDS) - reply.asked)
        if reply.asked > WARMING and reply.first and reply.length - reply.left > 1:
            speeds.append((reply.length - reply.left - 1) / (SECONDS - reply.first))
    waits, speeds, seconds = sorted(waits), sorted(speeds), last - WARMING
    middle, late = statistics.median(waits), waits[len(waits) * 95 // 100]
    return [busy / seconds, tokens / seconds, middle, late, statistics.median(speeds), speeds[len(speeds) // 20]]


def measure() -> Costs:
    """llama-server with one thread and the demo model."""
    steps: list[float] = []
    with llama_server(1, parallel=STREAMS[-1], n_ctx=256 * STREAMS[-1]) as url:
        for streams in (1, *STREAMS):  # the first one warms it up
            prompts = [[100 + number, 200, 300, 400] for number in range(streams)]
            steps.append(streams / together(streams, lambda prompt: ask_peer(url, prompt, 64), prompts)[0])
        began = time.perf_counter()
        ask_peer(url, [1000 + number % 500 for number in range(250)], 1)
        return Costs(steps[1:], 250 / (time.perf_counter() - began))


def main() -> None:
    sides = {"measured": measure(), "assumed": Costs([each / 1000 for each in ASSUMED[0]], ASSUMED[1])}
    lines, said = [HEAD], [f"| ms of a step of | {' | '.join(map(str, STREAMS))} streams | prompt tokens/s |"]
    said.append("| --- " * (len(STREAMS) + 2) + "|")
    for name, costs in sides.items():
        needed = USERS * REPLY / (PAUSE + REPLY * costs.steps[-1]) * costs.steps[-1] / STREAMS[-1]
        for engines in sorted({max(1, round(needed * share)) for share in (0.8, 1.0, 1.3, 1.7, 2.0)}):
            running, total, *rest = simulate(engines, costs)
            cells = [f"{running:.0f}", f"{total:,.0f}", *(f"{each:.2f} s" for each in rest[:2])]
            lines.append(f"| {' | '.join([name, str(engines), *cells, *(f'{each:.1f}' for each in rest[2:])])} |")
            print(lines[-1], flush=True)
        steps = " | ".join(f"{step * 1000:.1f}" for step in costs.steps)
        said.append(f"| {name} | {steps} | {costs.prompts:,.0f} |")
    section = "\n".join(["<!-- queue:begin -->", *lines, "", *said, "<!-- queue:end -->"])
    text = DOCUMENT.read_text(encoding="utf-8")
    found = re.sub(r"<!-- queue:begin -->.*<!-- queue:end -->", lambda _: section, text, flags=re.S)
    DOCUMENT.write_text(found, encoding="utf-8")


if __name__ == "__main__":
    main()
