"""Operations on all conversations: lists, search, trash, import and export."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace

from errors import NotFound, NothingToDo
from modules.chat.conversation import Conversation
from modules.chat.formats.conversation_file import dump_conversation
from modules.chat.formats.import_export import export_jsonl, import_chat
from modules.chat.store.search import SearchResult, search_chats
from modules.chat.store.store import ConversationInfo, ConversationStore, scope_of


class ChatArchive:
    """The conversations of this installation as a whole. May be used from several threads."""

    def __init__(
        self,
        store: ConversationStore,
        *,
        forget: Callable[[str], None] = lambda _: None,
        warm: Callable[[], Collection[str]] = lambda: (),
    ) -> None:
        """`forget` is called with the id of a conversation that no longer exists under it. `warm` returns the ids of
        those whose state a model has kept.
        """
        self._store = store
        self._forget = forget
        self._warm = warm

    def around(self, id: str) -> list[ConversationInfo]:
        """The conversations of the same mode and character as this one, newest first."""
        return self._marked(self._store.list(id.rpartition("/")[0]))

    def everything(self) -> list[ConversationInfo]:
        """All conversations, newest first."""
        return self._marked(self._store.everything())

    def count(self) -> int:
        """How many conversations there are, of all modes and characters."""
        return self._store.count()

    def revision(self, id: str) -> int | None:
        """The stored revision of a conversation; None if it has no file yet. Raises: InvalidName, NotFound."""
        return self._store.revision(id)

    def search(self, words: str) -> list[SearchResult]:
        """Conversations of all modes and characters that contain all these words; newest first."""
        return search_chats(self._store, words)

    def folders(self) -> list[str]:
        """The names of all folders that contain a conversation, in alphabetical order."""
        return sorted({info.folder for info in self._store.everything() if info.folder}, key=str.casefold)

    def trash(self) -> list[ConversationInfo]:
        """Deleted conversations that can be restored, newest first."""
        return self._store.trash()

    def import_chat(
        self, text: str, mode: str, character: str, title: str = "", notes: list[str] | None = None
    ) -> Conversation:
        """Import a conversation from another program's file: the original's JSON, or SillyTavern's JSONL.

        `notes` gets a sentence for what was left out. Raises: InvalidInput.
        """
        id = self._store.new_id(scope_of(mode, character))
        made = import_chat(id, text, title, notes)
        self._store.save(made)
        return made

    def export_chat(
        self, id: str, *, lines: bool = False, user: str = "You", character: str = "Assistant"
    ) -> tuple[str, bytes]:
        """A conversation as a file, its name and bytes: in our format, or `lines` as SillyTavern's JSONL.

        Raises: NothingToDo, InvalidName, BadFile.
        """
        if self._store.revision(id) is None:
            raise NothingToDo("This chat is empty and cannot be exported.")
        conversation = self._store.open(id)  # not its file: what a crash left of a reply is stored beside it
        stem = id.rpartition("/")[2]
        text, suffix = (
            (export_jsonl(conversation, user, character), "jsonl")
            if lines
            else (dump_conversation(conversation), "json")
        )
        # a lone surrogate becomes its JSON escape
        return f"{stem}.{suffix}", text.encode("utf-8", "backslashreplace")

    def restore(self, id: str) -> Conversation:
        """Restore a conversation from the trash. Raises: NotFound, InvalidName, Unavailable, BadFile."""
        made = self._store.restore(id)
        if made != id:  # what is known of it would never be found again under its new id
            self._forget(id)
        return self._store.open(made)

    def purge(self, id: str) -> None:
        """Delete a conversation in the trash for good, with all that is known of it.

        Raises: NotFound, InvalidName, Unavailable.
        """
        self._store.purge(id)
        self._forget(id)

    def empty_trash(self) -> int:
        """Delete all conversations in the trash for good; returns how many. Raises: Unavailable."""
        count = 0
        for info in self._store.trash():
            with suppress(NotFound):  # it was restored meanwhile
                self.purge(info.id)
                count += 1
        return count

    # --- inside ---

    def _marked(self, infos: list[ConversationInfo]) -> list[ConversationInfo]:
        warm = self._warm()
        return [replace(info, warm=True) if info.id in warm else info for info in infos]
