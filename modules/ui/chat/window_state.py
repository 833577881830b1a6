"""What a browser window remembers of the chat: which one it shows, unused texts; and the rate of updates."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from modules.chat.folders import FolderChange
from modules.chat.service import ReplyUpdate
from modules.ui.chat.view import SHOWN, ChatRef

#: The most updates of the page per second: more than the eye can follow, at a tenth of a CPU core.
UPDATES_PER_SECOND = 30
#: The page renders the whole text for each update. A browser that falls behind would not even react to a click on Stop,
#: so the pauses grow with the text: this many characters are rendered per second.
CHARACTERS_PER_SECOND = 40_000
_LONGEST_PAUSE = 0.5


class WindowState:
    """Which chat a browser window shows: replies of other chats grow in the background. One per window, changed in
    place.

    `given_back`: by chat, texts to return to the input box. `stopped`: chats in which Stop was pressed for a reply that
    may not have started yet. `starting`: chats in which a reply was requested that has no text yet. `following`: chats
    whose reply a running event shows, once for each such event. `folder_change`: the last change of a folder, with the
    chat that was open and its revision after that: Undo takes it back as long as that chat was not changed since.
    `earlier`: how many messages before the last exchange are shown at most; more once someone has asked for them.
    """

    def __init__(self) -> None:
        self.shown = ""
        self.earlier = SHOWN
        self.given_back: dict[str, str] = {}
        self.stopped: set[str] = set()
        self.starting: set[str] = set()
        self.following: list[str] = []
        self.folder_change: tuple[FolderChange, str, int] | None = None

    def earlier_in(self, id: str) -> int:
        """As `earlier`, if this chat is shown next: another one begins with its last messages."""
        return self.earlier if id == self.shown else SHOWN

    def open(self, id: str) -> None:
        """Show this chat from now on."""
        self.earlier = self.earlier_in(id)
        self.shown = id

    @contextmanager
    def follow(self, id: str) -> Iterator[None]:
        """While inside, an event shows what is written into this chat."""
        self.following.append(id)
        try:
            yield
        finally:
            self.following.remove(id)

    def undoes_folder(self, chat: ChatRef) -> FolderChange | None:
        """The change of a folder that Undo takes back while this chat is shown."""
        if self.folder_change is None:
            return None
        change, id, revision = self.folder_change
        return change if (id, revision) == (chat.id, chat.revision) else None

    def shows(self, chat: ChatRef) -> bool:
        """Whether updates of this chat are shown. Before the first chat is opened, all are."""
        return self.shown in ("", chat.id)


def chat_scope(chat: ChatRef) -> str:
    """The scope of a chat: "instruct", or "chat/CHARACTER"."""
    return chat.id.rpartition("/")[0]


def fitting_mode(mode: str, chat: ChatRef) -> Any:
    """The mode of the controls, if the chat can be in it."""
    if chat_scope(chat) == "instruct":
        return "instruct"
    return mode if mode in ("chat", "chat-instruct") else "chat"


def limit_rate(updates: Iterator[ReplyUpdate]) -> Iterator[ReplyUpdate]:
    """Pass on updates at a limited rate, and always the last one."""
    told = float("-inf")
    for update in updates:
        now = time.monotonic()
        pause = max(1 / UPDATES_PER_SECOND, min(len(update.text) / CHARACTERS_PER_SECOND, _LONGEST_PAUSE))
        if update.done or now - told >= pause:
            told = now
            yield update
