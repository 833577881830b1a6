"""1,000 conversations on disk: the time to list and search them, the first time and later."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.figure import Figure, Side, write
from modules.chat.conversation import Conversation
from modules.chat.store.search import search_chats
from modules.chat.store.store import ConversationStore
from modules.config.paths import Paths

CHATS, MESSAGES, ROUNDS = 1000, 20, 7
ALLOWED = 300.0  # milliseconds
WORDS = ["the", "lighthouse", "keeper", "counted", "forty", "ships", "and", "wrote", "them", "down"]


def fill(store: ConversationStore) -> None:
    """Create conversations of 20 messages with 100 words each."""
    chance = random.Random(0)
    for number in range(CHATS):
        made = Conversation(f"instruct/2024-{number:04}")
        parent = None
        for turn in range(MESSAGES):
            text = " ".join([*chance.choices(WORDS, k=100), f"number{number}"])
            parent = made.add("assistant" if turn % 2 else "user", text, parent).id
        store.save(made)


def milliseconds(doing: Callable[[], object]) -> float:
    start = time.perf_counter()
    doing()
    return (time.perf_counter() - start) * 1000


def measured(store: ConversationStore) -> tuple[float, float, float, float]:
    """The times in a program that has just started."""
    return (
        milliseconds(lambda: store.list("instruct")),
        milliseconds(lambda: store.list("instruct")),
        milliseconds(lambda: search_chats(store, "number777 lighthouse")),
        milliseconds(lambda: search_chats(store, "lighthouse keeper")),
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        paths = Paths.under(Path(root))
        fill(ConversationStore(paths))
        allowed = Side("allowed", [ALLOWED])
        times = [measured(ConversationStore(paths)) for _ in range(ROUNDS)]
    names = ("the list, first time", "the list, later", "a search with one match", "a search that matches all")
    rows = zip(names, zip(*times, strict=True), strict=True)
    write(
        "chats",
        [Figure(name, f"{CHATS:,} chats of {MESSAGES} messages", "ms", Side(name, values), allowed, 1.0, at_most=True)
         for name, values in rows],
        "The files are in the system's cache. A search shows the newest 100 matches.",
    )  # fmt: skip
