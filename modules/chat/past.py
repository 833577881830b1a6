"""What conversations were before their last changes, so that each change can be taken back. In memory, and bounded.

What another program has written meanwhile is nobody's to take back: no step leads behind it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from errors import NothingToDo

_STEPS, _CHATS, _MOST = 30, 100, 8_000_000  # steps a chat, chats, characters a chat


@dataclass
class _Steps:
    strangers: int  # how often other programs had written to it when these were kept
    texts: list[str] = field(default_factory=list)


class Past:
    """The earlier states of conversations, as texts, newest last. May be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: OrderedDict[str, _Steps] = OrderedDict()

    def keep(self, id: str, text: str, strangers: int) -> None:
        """Remember what a conversation is before it changes; `strangers` as the store counts them."""
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
        """Forget the last one: the change did not come about, or was taken back."""
        with self._lock:
            if id in self._steps and self._steps[id].texts:
                self._steps[id].texts.pop()

    def last(self, id: str, strangers: int) -> str:
        """What it was before its last change; it stays here until `drop`. Raises: NothingToDo."""
        with self._lock:
            steps = self._steps.get(id)
            if steps is None or not steps.texts:
                raise NothingToDo("Nothing has been changed here since the program was started.")
            if steps.strangers != strangers:
                raise NothingToDo(
                    "Another program has written to this chat after your last change, and Undo would throw its words "
                    "away. What you change from now on can be taken back."
                )
            return steps.texts[-1]
