"""A conversation: a tree that keeps every version of every message, and shows one branch.

Pure: it knows nothing of files, models or prompts. A message never moves in the tree; its text may grow while it is
being written. The shown branch is the path from the root along each message's chosen child.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from errors import NotFound, NothingToDo

Role = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One version of one message. `parent` is the id of the message that it answers; None at the beginning.

    `model` wrote it ("" for a person); `meta` is other information: `greeting`, the report of its generation, ...
    """

    id: str
    parent: str | None
    role: Role
    text: str
    created: float  # seconds since the epoch
    model: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_greeting(self) -> bool:
        """Whether it is the character's greeting, which answers no message."""
        return bool(self.meta.get("greeting"))


class Conversation:
    """The tree and its shown branch. `id` is its name in the store, `revision` is increased with every save."""

    def __init__(
        self,
        id: str,
        *,
        revision: int = 0,
        title: str = "",
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        self.id = id
        self.revision = revision
        self.title = title  # "" without a title
        self.pinned = False  # pinned to the top of the list
        self.folder = ""  # the folder in the list; "" for none
        self.model = ""  # the name of the model that answers here; "" for the one that is loaded
        self.meta: dict[str, Any] = dict(meta or {})  # other data that the store keeps, such as `banned_strings`
        self._messages: dict[str, Message] = {}
        self._children: dict[str | None, list[str]] = {None: []}
        self._chosen: dict[str | None, str | None] = {}  # parent to child; None: the shown branch ends here
        self._known: set[str] = set()  # shown messages with all their ancestors: `select` need not look further up
        self._next = 1

    # --- looking ---

    @property
    def banned_strings(self) -> str:
        """Strings that replies here must not contain, as in SamplingParams."""
        banned = self.meta.get("banned_strings")
        return banned if isinstance(banned, str) else ""

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        """All messages of all branches, each after its parent."""
        return iter(self._messages.values())

    def __contains__(self, message_id: object) -> bool:
        return message_id in self._messages

    def message(self, message_id: str) -> Message:
        """A message by its id. Raises: NotFound."""
        try:
            return self._messages[message_id]
        except KeyError:
            raise NotFound("This message no longer exists. Reload the conversation.") from None

    def path(self) -> list[Message]:
        """The shown branch, from the beginning to its end."""
        shown: list[Message] = []
        at = self._chosen.get(None)
        while at is not None:
            shown.append(self._messages[at])
            at = self._chosen.get(at)
        return shown

    def last(self) -> Message | None:
        """The end of the shown branch."""
        path = self.path()
        return path[-1] if path else None

    def versions(self, message_id: str) -> list[str]:
        """The ids of all versions of this message, itself included, oldest first. Raises: NotFound."""
        return list(self._children[self.message(message_id).parent])

    def children(self, message_id: str | None) -> list[str]:
        """The ids of the messages that answer this one (None: at the beginning), oldest first."""
        return list(self._children.get(message_id, ()))

    def chosen(self, message_id: str | None) -> str | None:
        """The child that is shown after this message; None if the branch ends."""
        return self._chosen.get(message_id)

    # --- changing ---

    def add(
        self,
        role: Role,
        text: str,
        parent: str | None = None,
        *,
        model: str = "",
        created: float | None = None,
        **meta: Any,
    ) -> Message:
        """Add a message below `parent` (None: at the beginning) and show it. Raises: NotFound."""
        while str(self._next) in self._messages:
            self._next += 1
        made = Message(str(self._next), parent, role, text, time.time() if created is None else created, model, meta)
        self.insert(made)
        self.select(made.id)
        return made

    def insert(self, message: Message) -> None:
        """Insert an existing message without showing it. Raises: NotFound for its parent, ValueError for its id."""
        if message.parent is not None:
            self.message(message.parent)
        if message.id in self._messages:
            raise ValueError(f"message {message.id} already exists")
        self._messages[message.id] = message
        self._children[message.id] = []
        self._children[message.parent].append(message.id)

    def set_text(self, message_id: str, text: str, *, model: str | None = None, **meta: Any) -> Message:
        """Replace a message's text (it grows while it is written); `meta` is merged, None deletes a key.

        Raises: NotFound.
        """
        old = self.message(message_id)
        # a display text (of an extension or another program) for the old text is no longer valid
        kept = old.meta if text == old.text else {key: old.meta[key] for key in old.meta if key != "visible"}
        merged = {key: value for key, value in {**kept, **meta}.items() if value is not None}
        made = replace(old, text=text, model=old.model if model is None else model, meta=merged)
        self._messages[message_id] = made
        return made

    def select(self, message_id: str) -> None:
        """Show this message: the branch leads to it and continues along the chosen children below it. Raises:
        NotFound.
        """
        at: str | None = message_id
        way = []
        while at is not None and at not in self._known:
            way.append(at)
            at = self.choose(at).parent
        self._known.update(way)

    def choose(self, message_id: str) -> Message:
        """Make this message the chosen one among its versions, even if the branch does not lead there. Raises:
        NotFound.
        """
        message = self.message(message_id)
        self._prefer(message.parent, message.id)
        return message

    def end_at(self, message_id: str | None) -> None:
        """Show nothing after this message (None: nothing at all). The messages below stay in the tree. Raises:
        NotFound.
        """
        if message_id is not None:
            self.select(message_id)
        self._prefer(message_id, None)

    def remove(self, message_id: str) -> list[Message]:
        """Remove a message and everything that answers it; the shown branch then ends before it, if it was shown.

        Returns what was removed, for `restore`. Raises: NotFound.
        """
        message = self.message(message_id)
        taken = list(self._below(message))
        if self._chosen.get(message.parent) == message.id:
            self._prefer(message.parent, None)
        for each in taken:
            del self._messages[each.id], self._children[each.id]
            self._chosen.pop(each.id, None)
        self._children[message.parent].remove(message.id)
        return taken

    def remove_last(self) -> list[Message]:
        """Remove the last exchange of the shown branch: the user's last message and its replies.

        If there is no message of the user before the reply, only the reply is removed. A greeting stays. Returns what
        was removed. Raises: NothingToDo.
        """
        path = self.path()
        if len(path) > 1 and path[-1].role == "assistant" and path[-2].role == "user":
            path.pop()
        if not path or path[-1].is_greeting:
            raise NothingToDo("There is no message to remove.")
        return self.remove(path[-1].id)

    def restore(self, taken: Sequence[Message]) -> None:
        """Restore what `remove` returned, and show it. Raises: NotFound if its parent no longer exists."""
        for each in taken:
            if each.id not in self._messages:
                self.insert(each)
        if taken:
            self.select(taken[0].id)
            for each in taken:
                self._chosen.setdefault(each.parent, each.id)

    def _prefer(self, parent: str | None, child: str | None) -> None:
        """Show this child after its parent. What was shown instead may no longer be shown."""
        before = self._chosen.get(parent)
        self._chosen[parent] = child
        while before is not None and before != child and before in self._known:
            self._known.remove(before)
            before = self._chosen.get(before)

    def _below(self, message: Message) -> Iterable[Message]:
        waiting = [message.id]
        while waiting:
            at = waiting.pop()
            yield self._messages[at]
            waiting.extend(reversed(self._children[at]))
