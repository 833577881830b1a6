"""All conversations together: what belongs where, what was said where, what was deleted, what comes from elsewhere."""

from __future__ import annotations

from errors import NothingToDo
from modules.chat.conversation import Conversation
from modules.chat.exchange import read_chat, to_lines
from modules.chat.file_form import to_text
from modules.chat.search import Found, search
from modules.chat.store import Info, Store, scope_of


class Archive:
    """The conversations of this installation as a whole. May be used from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def around(self, id: str) -> list[Info]:
        """The conversations that belong to the same place as this one, newest first."""
        return self._store.list(id.rpartition("/")[0])

    def search(self, words: str) -> list[Found]:
        """Every conversation, of all modes and characters, in which all these words are said; newest first."""
        return search(self._store, words)

    def trash(self) -> list[Info]:
        """What was deleted and can be restored, newest first."""
        return self._store.trash()

    def bring(
        self, text: str, mode: str, character: str, title: str = "", notes: list[str] | None = None
    ) -> Conversation:
        """A conversation out of another program's file: the original's JSON, or JSONL of SillyTavern.

        `notes` gets a sentence for what was left out. Raises: InvalidInput.
        """
        id = self._store.new_id(scope_of(mode, character))
        made = read_chat(id, text, title, notes)
        self._store.save(made)
        return made

    def take(
        self, id: str, *, lines: bool = False, user: str = "You", character: str = "Assistant"
    ) -> tuple[str, bytes]:
        """A conversation as a file, its name and its bytes: as it is kept here, or `lines` as SillyTavern's JSONL.

        Raises: NothingToDo, InvalidName, BadFile.
        """
        if self._store.revision(id) is None:
            raise NothingToDo("Nothing was said in this chat yet.")
        conversation = self._store.open(id)  # not its file: what a crash left of a reply lies beside that
        stem = id.rpartition("/")[2]
        text, suffix = (to_lines(conversation, user, character), "jsonl") if lines else (to_text(conversation), "json")
        # half a surrogate pair becomes its JSON escape
        return f"{stem}.{suffix}", text.encode("utf-8", "backslashreplace")

    def restore(self, id: str) -> Conversation:
        """Take a conversation out of the trash. Raises: NotFound, InvalidName, Unavailable, BadFile."""
        return self._store.open(self._store.restore(id))
