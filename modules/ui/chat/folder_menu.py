"""The menu of a folder in the list of chats: rename, remove. Undo takes either back, while nothing else was done.

It is part of the chats' menu (chat_menu.py), which says where its parts stand; the page's script (chats.js) opens it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from modules.app import App
from modules.chat.folders import FolderChange
from modules.ui.chat.actions import ChatActions
from modules.ui.chat.view import ChatRef
from modules.ui.chat.window_state import WindowState
from modules.ui.parts.events import Updates, on, show_info, show_warning, then
from modules.ui.texts import tr

#: The folder of the menu comes from the page's script, as the second input; the menu is closed at once.
_CHANGE = "(chat, _, ...rest) => [chat, Chats.leave(), ...rest]"
_ASK = "() => { Chats.ask('folder-renaming'); return Chats.target; }"
_RENAMED = "(name) => { Chats.renamed(name); }"


class FolderMenu:
    """The entries of the menu, and the question for a name."""

    def __init__(self, app: App) -> None:
        """Creates the entries; `ask` creates the question."""
        self._app = app
        self._rename = gr.Button(tr("chat.folder_rename"), elem_id="folder-rename", size="sm")
        self._remove = gr.Button(tr("chat.folder_remove"), elem_id="folder-remove", size="sm")

    def ask(self) -> gr.Button:
        """Create the question. Returns its button that closes the menu."""
        with gr.Column(elem_id="chat-folder-renaming", elem_classes="menu-question"):
            self._name = gr.Textbox(label=tr("chat.folder_name"), max_lines=1, elem_id="folder-name")
            with gr.Row(elem_classes="actions"):
                self._rename_now = gr.Button(
                    tr("button.rename"), variant="primary", size="sm", elem_id="folder-rename-now"
                )
                return gr.Button(tr("button.cancel"), size="sm")

    def wire(self, actions: ChatActions, target: gr.Textbox, search: gr.Textbox) -> None:
        """Connect the events; `target` gets the folder's name; `search`: the field above the list."""
        self._actions = actions
        screen = actions.screen
        given = [screen.chat, target, search, screen.window]
        on(self._rename.click, None, None, [self._name], js=_ASK)
        renames = [self._rename_now.click, self._name.submit]
        renamed = on(renames, self._changing(self._renamed), [*given, self._name], screen.outputs, js=_CHANGE)
        then(renamed, None, [self._name], js=_RENAMED)
        removed = on(self._remove.click, self._changing(self._removed), given, screen.outputs, js=_CHANGE)
        then(removed, None, js="() => { Chats.renamed(''); }")

    def _renamed(self, name: str, to: str) -> FolderChange:
        return self._app.folders.rename(name, to)

    def _removed(self, name: str) -> FolderChange:
        change = self._app.folders.remove(name)
        show_info(tr("chat.folder_removed", n=len(change.moved), name=name))
        return change

    def _changing(self, change: Callable[..., FolderChange]) -> Callable[..., Updates]:
        """The list after a change, and the open chat if it was in the folder."""

        def run(chat: ChatRef, target: str, words: str, window: WindowState, *name: Any) -> Updates:
            made = change(target, *name)
            for sentence in made.left:
                show_warning(sentence)
            revision = made.moved.get(chat.id, chat.revision)
            window.folder_change = made, chat.id, revision
            moved = chat.id in made.moved
            inside = self._actions.show(self._app.chats.open(chat.id), chat.earlier) if moved else {}
            return {**inside, **self._actions.listed(chat, words)}

        return run
