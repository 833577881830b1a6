"""What conversations were before their last changes, so that each change can be taken back. In memory, and bounded."""

from __future__ import annotations

import threading
from collections import OrderedDict

from errors import NothingToDo

_STEPS, _CHATS, _MOST = 30, 100, 8_000_000  # steps a chat, chats, characters a chat


class Past:
    """The earlier texts of conversations' files, newest last. May be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: OrderedDict[str, list[str]] = OrderedDict()

    def keep(self, id: str, text: str) -> None:
        """Remember what a conversation is before it changes; "" while it has no file."""
        with self._lock:
            texts = self._texts.setdefault(id, [])
            texts.append(text)
            while len(texts) > _STEPS or (len(texts) > 1 and sum(map(len, texts)) > _MOST):
                del texts[0]
            self._texts.move_to_end(id)
            while len(self._texts) > _CHATS:
                self._texts.popitem(last=False)

    def drop(self, id: str) -> None:
        """Forget the last one: the change did not come about."""
        with self._lock:
            if self._texts.get(id):
                self._texts[id].pop()

    def take(self, id: str) -> str:
        """What it was before its last change. Raises: NothingToDo."""
        with self._lock:
            if not self._texts.get(id):
                raise NothingToDo("Nothing has been changed here since the program was started.")
            return self._texts[id].pop()
