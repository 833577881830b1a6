"""Changing what stands in a conversation without asking the model: words, versions, branches. Each can be undone.

It must not know of models or prompts.
"""

from __future__ import annotations

from errors import NotFound, NothingToDo, utf8
from modules.chat.conversation import Conversation, Role
from modules.chat.file_form import title_of
from modules.chat.service import Chats
from modules.chat.store import Store

_LONGEST_TITLE = 200


class Edits:
    """Changes of conversations. May be used from several threads."""

    def __init__(self, chats: Chats, store: Store) -> None:
        self._chats = chats
        self._store = store

    def edit(self, id: str, message_id: str, text: str, revision: int | None = None) -> Conversation:
        """Change what a message says; what answers it stays. Raises: UserError."""
        utf8(text, "The message")
        with self._chats.changing(id, revision) as conversation:
            conversation.set_text(message_id, text)
        return conversation

    def version(self, id: str, message_id: str, text: str, revision: int | None = None) -> Conversation:
        """Say it in another way: a new version in the same place, with nothing below it yet. Raises: UserError."""
        utf8(text, "The message")
        with self._chats.changing(id, revision) as conversation:
            old = conversation.message(message_id)
            made = conversation.add(old.role, text, old.parent)
            if old.is_greeting:  # what begins a chat in other words still answers nobody
                conversation.set_text(made.id, text, greeting=True)
        return conversation

    def swipe(self, id: str, message_id: str, by: int, revision: int | None = None) -> Conversation:
        """Show the version `by` places further, as far as there are any. Raises: Conflict, NotFound, BadFile."""
        with self._chats.changing(id, revision) as conversation:
            versions = conversation.versions(message_id)
            conversation.select(versions[min(max(versions.index(message_id) + by, 0), len(versions) - 1)])
        return conversation

    def remove(self, id: str, message_id: str, revision: int | None = None) -> Conversation:
        """Take a message and all that answers it out; another version of it is shown, if there is one.

        Raises: Conflict, NotFound, BadFile.
        """
        with self._chats.changing(id, revision) as conversation:
            others = [each for each in conversation.versions(message_id) if each != message_id]
            conversation.remove(message_id)
            if others:
                conversation.select(others[-1])
        return conversation

    def say(self, id: str, role: Role, text: str, revision: int | None = None) -> Conversation:
        """Put a message at the end without asking the model: a dummy message, or a dummy reply. Raises: UserError."""
        if not text.strip():
            raise NothingToDo("There is nothing to put in. Write it first.")
        utf8(text, "The message")
        with self._chats.changing(id, revision) as conversation:
            last = conversation.last()
            conversation.add(role, text, last.id if last else None)
        return conversation

    def replace_last(self, id: str, text: str, revision: int | None = None) -> Conversation:
        """Put other words into the last reply. Raises: UserError."""
        if not text.strip():
            raise NothingToDo("There is nothing to replace the reply with. Write it first.")
        last = self._chats.open(id).last()
        if last is None or last.role != "assistant":
            raise NothingToDo("There is no reply to replace yet.")
        return self.edit(id, last.id, text, revision)

    def branch(self, id: str, message_id: str) -> Conversation:
        """A new conversation that begins with this one as far as a message; this one stays. Raises: UserError."""
        conversation = self._chats.open(id)
        path = conversation.path()
        names = [each.id for each in path]
        if message_id not in names:
            raise NotFound("This message is not shown any more. Look at the conversation again.")
        made = Conversation(self._store.new_id(id.rpartition("/")[0]), meta=conversation.meta)
        made.title = f"{title_of(conversation)} (branch)"[:_LONGEST_TITLE]
        for message in path[: names.index(message_id) + 1]:
            made.insert(message)
            made.select(message.id)
        self._store.save(made)
        self._store.records(id).copy(self._store.records(made.id))
        return made
