"""The menu of a chat, opened in the list or in the chat's head: rename, pin, move to a folder, download, delete. It is
also that of a folder (folder_menu.py): only one is open at a time.

The page's script (chats.js) opens it, and knows for which chat; the services do the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from modules.app import App
from modules.chat.conversation import Conversation
from modules.ui.chat.actions import ChatActions
from modules.ui.chat.folder_menu import FolderMenu
from modules.ui.chat.message_bar import MessageBar
from modules.ui.chat.view import ChatRef, view_chat
from modules.ui.chat.window_state import WindowState
from modules.ui.parts.events import Updates, on, show_info, then
from modules.ui.parts.file_download import FileDownload
from modules.ui.parts.formatting import escape
from modules.ui.parts.list_picker import make_picker, picker_chips
from modules.ui.texts import tr

#: The chat of the menu comes from the page's script, as the second input.
_TARGET = "(chat, _, ...rest) => [chat, Chats.target, ...rest]"
_ASK = "() => { Chats.ask('%s'); }"
_CLOSE = "() => { Chats.close(); }"
#: The same for a change: the menu is closed at once, and the focus returns when the new list is there.
_CHANGE = "(chat, _, ...rest) => [chat, Chats.leave(), ...rest]"
_BACK = "() => { Chats.back(); }"
_DELETES = "(chat, _, ...rest) => [chat, Chats.deletes(), ...rest]"
_DELETED = "() => { Chats.deleted(); }"


class ChatMenu:
    """The menu, and what it asks for: a name, a folder, whether to delete."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._target = gr.Textbox("", visible=False, label=tr("tab.chat"))
        with gr.Column(elem_id="chat-menu"):
            with gr.Column(elem_id="chat-menu-list"):
                self._rename = gr.Button(tr("button.rename"), elem_id="chat-rename", size="sm")
                self._pin = gr.Button(tr("chat.pin"), elem_id="chat-pin", size="sm")
                self._unpin = gr.Button(tr("chat.unpin"), elem_id="chat-unpin", size="sm")
                self._move = gr.Button(tr("chat.move"), elem_id="chat-move", size="sm")
                self._download = FileDownload(tr("chat.download"), "chat-download")
                self._delete = gr.Button(tr("button.delete"), elem_id="chat-delete", size="sm")
                self._of_folder = FolderMenu(app)
            with gr.Column(elem_id="chat-renaming", elem_classes="menu-question"):
                self._name = gr.Textbox(label=tr("chat.name"), max_lines=1, elem_id="chat-name")
                with gr.Row(elem_classes="actions"):
                    self._rename_now = gr.Button(
                        tr("button.rename"), variant="primary", size="sm", elem_id="chat-rename-now"
                    )
                    self._no = [gr.Button(tr("button.cancel"), size="sm")]
            with gr.Column(elem_id="chat-moving", elem_classes="menu-question"):
                self._folders = make_picker("chat-folders", elem_classes="picker-chips")
                self._folder = gr.Textbox(label=tr("chat.folder_new"), max_lines=1, elem_id="chat-folder")
                with gr.Row(elem_classes="actions"):
                    self._move_now = gr.Button(tr("chat.move"), variant="primary", size="sm", elem_id="chat-move-now")
                    self._no.append(gr.Button(tr("button.cancel"), size="sm"))
            self._no.append(self._of_folder.ask())
            with gr.Column(elem_id="chat-deleting", elem_classes="menu-question"):
                self._question = gr.HTML("")
                with gr.Row(elem_classes="actions"):
                    self._delete_now = gr.Button(
                        tr("button.delete"), variant="stop", size="sm", elem_id="chat-delete-now"
                    )
                    self._no.append(gr.Button(tr("button.cancel"), size="sm", elem_id="chat-delete-no"))

    def wire(self, actions: ChatActions, scope: Sequence[Any], search: gr.Textbox, bar: MessageBar) -> Any:
        """Connect the events; `scope`: mode, character, the user's name; `search`: the field above the list.

        Returns the event after which a chat is in the trash.
        """
        self._actions, self._bar = actions, bar
        screen = actions.screen
        outputs, chat = screen.outputs, screen.chat
        given = [chat, self._target, search]
        for button, ask, asked, kind in (
            (self._rename, self._ask_name, [self._name], "renaming"),
            (self._move, self._ask_folder, [self._folders, self._folder], "moving"),
            (self._delete, self._ask_delete, [self._question], "deleting"),
        ):
            then(on(button.click, ask, [chat, self._target], asked, js=_TARGET), None, js=_ASK % kind)
        for triggers, change, inputs in (
            ([self._pin.click], self._pinning(True), given),
            ([self._unpin.click], self._pinning(False), given),
            ([self._rename_now.click, self._name.submit], self._renamed, [*given, self._name]),
            ([self._move_now.click, self._folder.submit], self._moved, [*given, self._folder]),
            ([self._folders.click], self._moved_to, given),
        ):
            then(on(triggers, actions.show_current_on_conflict(change), inputs, outputs, js=_CHANGE), None, js=_BACK)
        for button in self._no:
            on(button.click, None, js=_CLOSE)
        self._of_folder.wire(actions, self._target, search)
        self._download.wire(self._app.archive.export_chat, [self._target], js="() => [Chats.leave()]")
        deleting = [chat, self._target, search, screen.window, *scope]
        deleted = on(self._delete_now.click, self._deleted, deleting, [*outputs, *bar.outputs], js=_DELETES)
        then(deleted, None, js=_DELETED)
        return deleted

    # --- questions ---

    def _ask_name(self, _: ChatRef, target: str) -> str:
        return view_chat(self._app.chats.open(target)).title

    def _ask_folder(self, _: ChatRef, target: str) -> Updates:
        here = self._app.chats.open(target).folder
        choices = [(name, name) for name in self._app.archive.folders() if name != here]
        choices += [("", tr("chat.folder_none"))] if here else []
        chips = picker_chips(tr("chat.folders"), choices, tr("chat.folder_pick"))
        return {self._folders: chips, self._folder: ""}

    def _ask_delete(self, chat: ChatRef, target: str) -> str:
        asked = tr("chat.trash_ask", title=escape(self._ask_name(chat, target)))
        return f"<p data-of='{escape(target)}'>{asked}</p>"

    # --- changes; `words` are those of the search ---

    def _pinning(self, pinned: bool) -> Callable[[ChatRef, str, str], Updates]:
        def run(chat: ChatRef, target: str, words: str) -> Updates:
            return self._shown(chat, self._app.edits.pin(target, pinned, _revision(chat, target)), words)

        return run

    def _renamed(self, chat: ChatRef, target: str, words: str, title: str) -> Updates:
        return self._shown(chat, self._app.chats.rename(target, title, _revision(chat, target)), words)

    def _moved(self, chat: ChatRef, target: str, words: str, folder: str) -> Updates:
        return self._shown(chat, self._app.edits.move(target, folder, _revision(chat, target)), words)

    def _moved_to(self, chat: ChatRef, target: str, words: str, event: gr.EventData) -> Updates:
        return self._moved(chat, target, words, event.pick)

    def _deleted(self, chat: ChatRef, target: str, words: str, window: WindowState, *scope: str) -> Updates:
        """Move the chat to the trash; if it was open, open the latest of the others."""
        self._app.chats.delete(target)
        show_info(tr("chat.trash_moved"))
        if target == chat.id:
            return {**self._actions.open_latest(window, *scope), **self._bar.hide()}
        return self._actions.listed(chat, words)

    def _shown(self, chat: ChatRef, conversation: Conversation, words: str) -> Updates:
        """The list, and the changed chat if it is the open one."""
        shown = self._actions.show(conversation, chat.earlier) if conversation.id == chat.id else {}
        return {**shown, **self._actions.listed(chat, words)}


def _revision(chat: ChatRef, target: str) -> int | None:
    """The revision that the page shows of this chat; None if it is not the open one."""
    return chat.revision if target == chat.id else None
