"""Folders of conversations: renamed and removed as a whole, and that undone as a whole.

A folder exists while conversations name it, of whatever mode and character. Each of its conversations is changed like
by any other edit, so each has its own step of undo, too. It must not know of models or pages.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from errors import BadFile, Conflict, InvalidInput, NotFound, NothingToDo, UserError, encode_utf8
from modules.chat.formats.conversation_file import LONGEST_FOLDER
from modules.chat.service import ChatService
from modules.chat.store.store import ConversationStore


@dataclass(frozen=True)
class FolderChange:
    """A folder that got another name ("": its conversations are in no folder now). `moved`: each conversation's id and
    its revision after that. `left`: a sentence about each that cannot be read, which stays as it is.
    """

    before: str
    after: str
    moved: Mapping[str, int] = field(default_factory=dict)
    left: tuple[str, ...] = ()


class ChatFolders:
    """Changes of whole folders. May be used from several threads."""

    def __init__(self, chats: ChatService, store: ConversationStore) -> None:
        self._chats = chats
        self._store = store

    def rename(self, name: str, to: str) -> FolderChange:
        """Give a folder another name; if there is a folder of that name, it gets these conversations, too.

        All or nothing, except for damaged files. Raises: InvalidInput, NotFound, NothingToDo, Conflict, Unavailable,
        BadFile if nothing in it can be read.
        """
        wanted = valid_folder(to)
        if not wanted:
            raise InvalidInput("A folder's name cannot be empty. Enter at least one letter.")
        if wanted == name:
            raise NothingToDo(f"The folder already has the name {wanted}.")
        return self._change(name, wanted)

    def remove(self, name: str) -> FolderChange:
        """Remove a folder: its conversations stay, in no folder. Otherwise like `rename`.

        Raises: NotFound, Conflict, Unavailable, BadFile.
        """
        return self._change(name, "")

    def undo(self, change: FolderChange) -> int:
        """Undo a change of a folder; returns how many conversations are back in it.

        What was moved or deleted since stays as it is. Raises: NothingToDo, if that is all of them; Conflict,
        Unavailable.
        """
        self._check_idle(change.moved)
        back = 0
        for id, revision in change.moved.items():
            with contextlib.suppress(NotFound, BadFile):  # it was deleted, or damaged
                back += self._return(id, revision, change)
        if not back:
            raise NothingToDo("Nothing to undo: all chats of the folder have been moved or deleted since.")
        return back

    # --- inside ---

    def _change(self, name: str, to: str) -> FolderChange:
        inside = [info.id for info in self._store.everything() if name and info.folder == name]
        if not inside:
            raise NotFound(f"There is no folder {name:.60} any more.")
        self._check_idle(inside)
        moved, damaged = dict[str, int](), list[BadFile]()
        try:
            for id in inside:
                try:
                    moved[id] = self._put(id, to)
                except NotFound:  # it was deleted meanwhile
                    continue
                except BadFile as error:
                    damaged.append(error)
        except UserError:
            for id, revision in moved.items():
                with contextlib.suppress(UserError):
                    self._chats.undo(id, revision)
            raise
        if damaged and not moved:
            raise damaged[0]
        return FolderChange(name, to, moved, tuple(map(str, damaged)))

    def _check_idle(self, ids: Iterable[str]) -> None:
        """Before anything is changed. Raises: Conflict."""
        for id in ids:
            if self._chats.writing(id) is not None:
                raise Conflict(
                    "A reply is being generated in a chat of this folder. Wait for it to finish, or press Stop there."
                )

    def _put(self, id: str, folder: str) -> int:
        """Put a conversation into a folder, and return its revision."""
        with self._chats.changing(id, None) as conversation:
            conversation.folder = folder
        return conversation.revision

    def _return(self, id: str, revision: int, change: FolderChange) -> bool:
        """Put a conversation back, unless it is elsewhere by now. Untouched, it has its earlier state again, with its
        own steps of undo.
        """
        now = self._chats.open(id)
        if now.folder != change.after:
            return False
        if now.revision == revision:
            with contextlib.suppress(NothingToDo):  # too many changes since: only the latest are remembered
                self._chats.undo(id, revision)
                return True
        self._put(id, change.before)
        return True


def valid_folder(text: str) -> str:
    """The name of a folder, without spaces that say nothing; "" for none. Raises: InvalidInput."""
    encode_utf8(text, "The folder's name")
    name = " ".join(text.split())
    if len(name) > LONGEST_FOLDER:
        raise InvalidInput(f"A folder's name can have at most {LONGEST_FOLDER} characters. Choose a shorter one.")
    return name
