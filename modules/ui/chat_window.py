"""What a window of a browser remembers of the chat: which one it shows, what was written and is on its way; and how
often it is told of new text.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from modules.chat.service import Update
from modules.ui.chat_view import Place

#: The page is told of new text at most this often per second: more than an eye can follow, and a tenth of a core.
UPDATES_PER_SECOND = 30
#: The page renders the whole text each time. A browser that cannot follow would not even take a click on Stop, so the
#: pauses grow with the text: so many characters are rendered a second.
CHARACTERS_PER_SECOND = 40_000
_LONGEST_PAUSE = 0.5


@dataclass(frozen=True)
class Draft:
    """What was written and is on its way."""

    text: str = ""
    wanted: bool = False  # something is to be generated at all


class Window:
    """Which chat a browser's window shows: replies of other chats grow unseen. One for each window, changed in place.

    `given_back`: by chat, what was written and came to nothing. `stopped`: chats in which Stop was pressed for a reply
    that may not have begun yet.
    """

    def __init__(self) -> None:
        self.shown = ""
        self.given_back: dict[str, str] = {}
        self.stopped: set[str] = set()

    def shows(self, place: Place) -> bool:
        """Whether what happens in this chat is to be seen. Before the first chat is there everything is."""
        return self.shown in ("", place.id)


def scope_of(place: Place) -> str:
    """Where a chat belongs: "instruct", or "chat/CHARACTER"."""
    return place.id.rpartition("/")[0]


def fitting(mode: str, place: Place) -> Any:
    """The mode that the controls say, if the chat can be in it."""
    if scope_of(place) == "instruct":
        return "instruct"
    return mode if mode in ("chat", "chat-instruct") else "chat"


def paced(updates: Iterator[Update]) -> Iterator[Update]:
    """Let through as many updates as a page is to be told of, and always the last one."""
    told = float("-inf")
    for update in updates:
        now = time.monotonic()
        pause = max(1 / UPDATES_PER_SECOND, min(len(update.text) / CHARACTERS_PER_SECOND, _LONGEST_PAUSE))
        if update.done or now - told >= pause:
            told = now
            yield update
