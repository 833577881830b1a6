"""All conversations together: what belongs where, what was said where, what was deleted, what comes from elsewhere."""

from __future__ import annotations

from modules.chat.conversation import Conversation
from modules.chat.exchange import read_chat
from modules.chat.store import Found, Info, Store, scope_of


class Archive:
    """The conversations of this installation as a whole. May be used from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def around(self, id: str) -> list[Info]:
        """The conversations that belong to the same place as this one, newest first."""
        return self._store.list(id.rpartition("/")[0])

    def search(self, words: str) -> list[Found]:
        """Every conversation, of all modes and characters, in which all these words are said; newest first."""
        return self._store.search(words)

    def trash(self) -> list[Info]:
        """What was deleted and can be restored, newest first."""
        return self._store.trash()

    def bring(self, text: str, mode: str, character: str, title: str = "") -> Conversation:
        """A conversation out of another program's file: the original's JSON, or JSONL of SillyTavern.

        Raises: InvalidInput.
        """
        id = self._store.new_id(scope_of(mode, character))
        made = read_chat(id, text, title)
        self._store.save(made)
        return made

    def restore(self, id: str) -> Conversation:
        """Take a conversation out of the trash. Raises: NotFound, InvalidName, Unavailable, BadFile."""
        return self._store.open(self._store.restore(id))
