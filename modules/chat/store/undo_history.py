"""The earlier states of conversations, for undo. In memory, and limited.

Changes by other programs are never undone: no step goes back beyond them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from errors import NothingToDo

_STEPS, _CHATS, _MOST = 30, 100, 8_000_000  # steps per chat, chats, characters per chat


@dataclass
class _Steps:
    strangers: int  # the number of external writes when these were stored
    texts: list[str] = field(default_factory=list)


class UndoHistory:
    """The earlier states of conversations as texts, newest last. May be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: OrderedDict[str, _Steps] = OrderedDict()

    def keep(self, id: str, text: str, strangers: int) -> None:
        """Store a conversation's state before a change; `strangers` as counted by the store."""
        with self._lock:
            steps = self._steps.get(id)
            if steps is None or steps.strangers != strangers:
                steps = self._steps[id] = _Steps(strangers)
            texts = steps.texts
            texts.append(text)
            while len(texts) > _STEPS or (len(texts) > 1 and sum(map(len, texts)) > _MOST):
                del texts[0]
            self._steps.move_to_end(id)
            while len(self._steps) > _CHATS:
                self._steps.popitem(last=False)

    def drop(self, id: str) -> None:
        """Remove the last state: the change failed or was undone."""
        with self._lock:
            if id in self._steps and self._steps[id].texts:
                self._steps[id].texts.pop()

    def last(self, id: str, strangers: int) -> str:
        """The state before the last change; it stays here until `drop`. Raises: NothingToDo."""
        with self._lock:
            steps = self._steps.get(id)
            if steps is None or not steps.texts:
                raise NothingToDo("Nothing to undo.")
            if steps.strangers != strangers:
                raise NothingToDo(
                    "Another program has changed this chat since your last change, so Undo would delete its text. "
                    "Changes that you make from now on can be undone."
                )
            return steps.texts[-1]
