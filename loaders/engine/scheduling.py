"""Fair scheduling: places are shared among clients, however many requests each of them sends.

It must not know how replies are computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from loaders.engine.active_request import ActiveRequest
from loaders.engine.request_queue import HasJob, RequestQueue
from loaders.job import EngineTask, Job

#: The number of tokens that a reply generates before another request may take its place, if the engine can pause it.
TURN = 64

R = TypeVar("R", bound=ActiveRequest)


def replies_to_pause(runs: Sequence[R], queue: RequestQueue[Job | R], places: int) -> list[R]:
    """The replies whose turn is over, longest first; none of a client that has no more than its share.

    The requests of a client that sends twenty take turns with each other, not with those of a client that sends one.
    """
    running = Counter(map(client_of, runs))
    share = places // max(len({*running, *map(client_of, queue.jobs())}), 1)
    found = [run for run in runs if run.turn >= TURN and run.replying and running[client_of(run)] > share]
    return sorted(found, key=lambda run: -run.turn)


def next_request(runs: Sequence[R], queue: RequestQueue[Job | R], last: str = "") -> Job | R | None:
    """The next request to admit, now first in the queue: the oldest of the clients with the fewest running replies.

    If none is running, as with one place, all other clients go before the one that was admitted `last`. Nothing
    overtakes a task: older requests are answered before it, newer ones after it.
    """
    if not len(queue):  # true at nearly every step
        return None
    running = Counter(map(client_of, runs)) or Counter([last])
    queue.prefer(lambda item: running[client_of(item)], lambda item: isinstance(item, EngineTask))
    return queue.first


def client_of(item: HasJob) -> str:
    """The client of a request: its label, else the request itself."""
    return item.job.request.label or f"#{item.job.request.id}"
