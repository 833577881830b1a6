"""Whose turn it is: places are shared out among requests, however many replies each of them asks for.

It must not know how replies are computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from loaders.job import Errand, Job
from loaders.line import Line
from loaders.llamacpp.run import Run

#: How many tokens a reply generates before it lets somebody else in.
TURN = 64


def tired(runs: Sequence[Run], line: Line[Job | Run], places: int) -> list[Run]:
    """The replies that have had their turn, the longest first: none of a request that has no more than its share.

    One that asks for twenty replies takes turns with itself, and not with those who ask for one.
    """
    running = Counter(map(client, runs))
    share = places // max(len({*running, *map(client, line.jobs())}), 1)
    found = [run for run in runs if run.turn >= TURN and run.replying and running[client(run)] > share]
    return sorted(found, key=lambda run: -run.turn)


def call_next(runs: Sequence[Run], line: Line[Job | Run]) -> Job | Run | None:
    """Who is let in next, now first in the line: of the requests with the fewest replies running, the first.

    Nobody passes an errand: what came before it is answered before it, and what came later after it.
    """
    if not len(line):  # as at nearly every step
        return None
    running = Counter(map(client, runs))
    line.prefer(lambda item: running[client(item)], lambda item: isinstance(item, Errand))
    return line.first


def client(item: Job | Run) -> str:
    """Whose it is: the request's label, else the request itself."""
    return item.job.request.label or f"#{id(item.job)}"
