"""Messages of several threads, sent directly or through the sender, keep each thread's order."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

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
            chance.choice([outbox.send, outbox.put, outbox.collect])((number, count))

    threads = [threading.Thread(target=produce, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    outbox.send()
    outbox.flush(10)
    for number in range(4):
        assert [count for who, count in channel.items if who == number] == list(range(300))


def test_the_tokens_of_a_step_are_one_message_from_the_thread_that_computed_them() -> None:
    channel = Recorder()
    outbox = Outbox(channel)  # type: ignore[arg-type]
    threads: set[str] = set()
    send = channel.send

    def noting(items: list[Any]) -> None:
        threads.add(threading.current_thread().name)
        send(items)

    channel.send = noting  # type: ignore[method-assign]
    sinks = [OutboxQueue(key, outbox) for key in range(3)]
    for sink in sinks:
        sink.job = Job(Request([1]), sink)
    for id in range(4):
        for sink in sinks:
            sink.put(Token(id, b"x"))
        outbox.send()
    outbox.send()  # nothing
    sinks[1].put(Token(4, b"x"))
    sinks[1].put(Finish.STOP)  # not later than its tokens, nor at the end of a step only
    tokens = [[item[:2] for item in message if isinstance(item, tuple)] for message in channel.messages]
    assert tokens == [*([(key, id) for key in range(3)] for id in range(4)), [(1, 4)]]
    assert channel.items[-1].finish is Finish.STOP
    assert threads == {threading.current_thread().name}


def test_what_is_collected_while_another_thread_sends_is_sent_after_it() -> None:
    channel, sending, go = Recorder(), threading.Event(), threading.Event()
    outbox = Outbox(channel)  # type: ignore[arg-type]
    send = channel.send

    def held(items: list[Any]) -> None:
        sending.set()
        assert go.wait(10)
        send(items)

    channel.send = held  # type: ignore[method-assign]
    other = threading.Thread(target=lambda: outbox.send(1))
    other.start()
    assert sending.wait(10)
    outbox.collect(2)
    outbox.send(3)
    go.set()
    other.join(10)
    outbox.flush(10)
    assert channel.messages == [[1], [2, 3]]
