"""Messages of several threads, sent directly or through the sender, keep each thread's order."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest

from loaders.base import Finish, Request, Token
from loaders.job import Job
from loaders.process.streams import Outbox, OutboxQueue


class Recorder:
    """A fake channel that records what is sent, sometimes slowly, and detects two sends at once."""

    def __init__(self) -> None:
        self.messages: list[list[Any]] = []
        self.busy = threading.Lock()

    def send(self, items: list[Any]) -> None:
        assert self.busy.acquire(blocking=False), "two threads sent at the same time"
        if random.random() < 0.05:
            time.sleep(0.001)
        self.messages.append(list(items))
        self.busy.release()

    @property
    def items(self) -> list[Any]:
        return [item for message in self.messages for item in message]


def test_each_thread_keeps_its_order_and_nothing_is_lost() -> None:
    channel = Recorder()
    outbox = Outbox(channel)  # type: ignore[arg-type]

    def produce(number: int) -> None:
        chance = random.Random(number)
        for count in range(300):
            (outbox.send if chance.random() < 0.5 else outbox.put)((number, count))

    threads = [threading.Thread(target=produce, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    outbox.flush(10)
    for number in range(4):
        assert [count for who, count in channel.items if who == number] == list(range(300))


@pytest.mark.parametrize("alone", [True, False])
def test_one_reply_alone_needs_no_other_thread(alone: bool) -> None:
    channel = Recorder()
    outbox = Outbox(channel)  # type: ignore[arg-type]
    threads: list[str] = []
    send = channel.send

    def noting(items: list[Any]) -> None:
        threads.append(threading.current_thread().name)
        send(items)

    channel.send = noting  # type: ignore[method-assign]
    sink = OutboxQueue(7, outbox, lambda: alone)
    sink.job = Job(Request([1]), sink)
    for id in range(3):
        sink.put(Token(id, b"x"))
    sink.put(Finish.STOP)
    outbox.flush(10)
    assert [item[1] for item in channel.items if isinstance(item, tuple)] == [0, 1, 2]
    assert set(threads) == ({threading.current_thread().name} if alone else {"sender"})
    assert channel.items[-1].finish is Finish.STOP
