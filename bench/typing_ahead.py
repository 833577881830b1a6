"""How soon a reply begins after Enter, if what was typed has been read before; and what that costs others.

`python -m bench typing_ahead` loads the demo model. In a chat of 1,000 tokens a message of
200 tokens is typed: in ten pieces, and after each the model reads what is there, in requests of the lowest class, as
the page does it. The time from Enter to the first token is compared with the same chat and message without that. Then
another client's requests come one after the other, while somebody types all the time: their time is compared with that
of the same requests alone.
"""

from __future__ import annotations

import random
import sys
import threading
import time

from bench.figure import Figure, Side, in_turn, write
from bench.one_stream import default_threads, model_file
from loaders import loader_named
from loaders.base import Model, Request
from loaders.params import SamplingParams

CHAT, MESSAGE, PIECES, ROUNDS, OTHERS, N_CTX = 1000, 200, 10, 5, 6, 8192
PAUSE = 0.4  # seconds between two pauses in typing
GREEDY = SamplingParams(do_sample=False, ban_eos_token=True)


def words(draw: random.Random, count: int) -> list[int]:
    return [draw.randrange(40, 40_000) for _ in range(count)]


def read_ahead(model: Model, ids: list[int]) -> None:
    for _ in model.generate(Request(ids, GREEDY, 1, label="typing", yields=True)):
        pass


def ask(model: Model, ids: list[int], count: int = 1) -> float:
    """Seconds to the last of so many tokens."""
    started = time.perf_counter()
    for _ in model.generate(Request(ids, GREEDY, count, label="bench")):
        pass
    return time.perf_counter() - started


def after_enter(model: Model, draw: random.Random, *, ahead: bool) -> float:
    chat, message = words(draw, CHAT), words(draw, MESSAGE)
    ask(model, chat, 4)
    for typed in range(MESSAGE // PIECES, MESSAGE, MESSAGE // PIECES) if ahead else ():
        read_ahead(model, [*chat, *message[:typed]])  # the last piece is not read: Enter comes before a pause
    return ask(model, [*chat, *message])


def others(model: Model, draw: random.Random, *, typing: bool) -> float:
    """Seconds of another client's requests, with pauses as between a person's."""
    over, chat = threading.Event(), words(draw, CHAT)

    def type_on() -> None:
        text = list(chat)
        while not over.wait(PAUSE):
            text += words(draw, MESSAGE // PIECES)
            read_ahead(model, text)

    thread = threading.Thread(target=type_on) if typing else None
    if thread:
        thread.start()
    seconds, theirs = 0.0, random.Random(draw.random())
    for _ in range(OTHERS):
        time.sleep(PAUSE / 2)
        seconds += ask(model, words(theirs, MESSAGE), 24)
    over.set()
    if thread:
        thread.join()
    return seconds


def main() -> None:
    rounds = int(sys.argv[-1]) if sys.argv[-1].isdigit() else ROUNDS
    threads, draw = default_threads(), random.Random(1)
    loader = loader_named("llama.cpp")
    options = {"n_ctx": N_CTX, "threads": threads, "threads_batch": threads, "cpu": True, "kv_disk": "0"}
    figures = []
    with loader.load(model_file(), loader.Options.parse(options), lambda *_: True) as model:
        after_enter(model, draw, ahead=True)
        sides = in_turn(
            rounds, lambda: after_enter(model, draw, ahead=True), lambda: after_enter(model, draw, ahead=False)
        )
        name = f"first token after a message of {MESSAGE} tokens"
        figures.append(
            Figure("", name, "s", Side("read ahead", sides[0]), Side("read after Enter", sides[1]), 0.4, at_most=True)
        )
        sides = in_turn(rounds, lambda: others(model, draw, typing=True), lambda: others(model, draw, typing=False))
        name = f"{OTHERS} requests of another client, while somebody types"
        figures.append(
            Figure("", name, "s", Side("with reading ahead", sides[0]), Side("without", sides[1]), 1.05, at_most=True)
        )
    write("typing_ahead", figures, f"{threads} threads, a chat of {CHAT:,} tokens.")


if __name__ == "__main__":
    main()
