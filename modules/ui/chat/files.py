"""Chats as files: import, export, and the trash."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from errors import BadFile, InvalidInput
from modules.app import App
from modules.chat.store.store import kind_and_character
from modules.ui.chat.actions import ChatActions
from modules.ui.chat.message_bar import MessageBar
from modules.ui.chat.view import ChatRef, chat_list_html
from modules.ui.chat.window_state import WindowState
from modules.ui.parts.events import Updates, on, show_info, show_warning, then
from modules.ui.parts.file_download import FileDownload
from modules.ui.parts.formatting import escape
from modules.ui.parts.list_picker import PickerEntry, make_picker, picker_entries
from modules.ui.texts import tr

_LARGEST = 64_000_000


class ChatFiles:
    """A collapsible part of the sidebar."""

    def __init__(self, app: App) -> None:
        self._app = app
        with gr.Accordion(tr("chat.files"), open=False, elem_id="chat-files", elem_classes="rest") as self.fold:
            self._upload = gr.UploadButton(
                tr("chat.import"), file_types=[".json", ".jsonl"], size="sm", elem_id="chat-import"
            )
            with gr.Row(elem_classes="actions"):
                self._json = FileDownload(tr("chat.export"), "chat-export")
                self._lines = FileDownload(tr("chat.export_lines"), "chat-export-lines")
            self._trash = make_picker("chat-trash")
            self._empty = gr.Button(tr("chat.trash_all"), size="sm", visible=False, elem_id="chat-empty-trash")
            with gr.Row(visible=False, elem_classes="asking", elem_id="chat-emptying") as self._asking:
                self._question = gr.HTML("")
                self._yes = gr.Button(tr("button.delete"), variant="stop", size="sm", elem_id="chat-empty-now")
                self._no = gr.Button(tr("button.cancel"), size="sm")
            self._outputs = [self._trash, self._empty, self._asking]
            self._doomed = gr.State("")  # the one chat that the question is about; "" for all

    def wire(self, actions: ChatActions, scope: Sequence[Any], bar: MessageBar, js: str) -> Any:
        """Connect the events; `scope`: mode, character, the user's name; `js` runs when another chat is opened.

        Returns the event after which the chat is open.
        """
        screen, archive, your_name = actions.screen, self._app.archive, scope[-1]
        self._chats = screen.chats
        outputs = self._outputs
        on(self.fold.expand, self._listed, None, outputs)
        asked = [self._question, self._asking, self._doomed]
        listed = [*outputs, screen.chats, *asked[::2]]
        on(self._trash.click, self._picked, [screen.chat], listed, several=True)
        on(self._empty.click, self._ask, None, asked)
        on(self._yes.click, self._delete, [self._doomed], outputs)
        on(self._no.click, lambda: gr.update(visible=False), None, [self._asking])

        def lines(chat: ChatRef, user: str) -> tuple[str, bytes]:
            kind, character = kind_and_character(chat.id)
            return archive.export_chat(
                chat.id, lines=True, user=user or "You", character=character if kind == "chat" else "Assistant"
            )

        self._json.wire(lambda chat: archive.export_chat(chat.id), [screen.chat])
        self._lines.wire(lines, [screen.chat, your_name])

        def bring(window: WindowState, path: str, mode: str, character: str) -> Updates:
            return actions.switch_to(window, self._bring(Path(path), mode, character), mode)

        brought = [screen.window, self._upload, *scope[:2]]
        return on(self._upload.upload, bar.closing(bring), brought, [*screen.outputs, *bar.outputs], js=js)

    def list_after(self, deleted: Any) -> None:
        """List the trash again after a chat was moved there: its list may be open."""
        then(deleted, self._listed, None, self._outputs)

    def _bring(self, path: Path, mode: str, character: str) -> Any:
        if path.stat().st_size > _LARGEST:
            raise InvalidInput(tr("chat.too_large", n=_LARGEST // 1_000_000))
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise BadFile(path.name, "it is not UTF-8 text", "Save it as UTF-8, then try again.") from None
        notes: list[str] = []
        made = self._app.archive.import_chat(text, mode, character or "Assistant", path.stem, notes)
        for note in notes:
            show_warning(note)
        return made

    def _listed(self) -> Updates:
        items = [
            PickerEntry(info.id, info.title, detail=info.id, remove=tr("chat.trash_one", title=info.title))
            for info in self._app.archive.trash()
        ]
        return {
            self._trash: picker_entries(tr("chat.trash_label"), items, "", tr("chat.trash_empty")),
            self._empty: gr.update(visible=bool(items)),
            self._asking: gr.update(visible=False),
        }

    def _ask(self) -> Updates:
        """Ask whether to delete all that is in the trash now."""
        question = f"<p>{tr('chat.trash_all_ask', n=len(self._app.archive.trash()))}</p>"
        return {self._question: question, self._asking: gr.update(visible=True), self._doomed: ""}

    def _ask_of(self, id: str) -> Updates:
        """Ask whether to delete one chat in the trash for good."""
        title = next((info.title for info in self._app.archive.trash() if info.id == id), id)
        question = f"<p>{tr('chat.trash_one_ask', title=escape(title))}</p>"
        return {self._question: question, self._asking: gr.update(visible=True), self._doomed: id}

    def _delete(self, doomed: str) -> Updates:
        archive = self._app.archive
        if doomed:
            archive.purge(doomed)
        show_info(tr("chat.trash_all_done", n=1 if doomed else archive.empty_trash()))
        return self._listed()

    def _picked(self, chat: ChatRef, event: gr.EventData) -> Updates:
        if event.remove:
            return self._ask_of(event.remove)
        made = self._app.archive.restore(event.pick)
        show_info(tr("chat.restored", id=made.id))
        listed = chat_list_html(self._app.archive.around(chat.id), chat.id)
        return {**self._listed(), self._chats: listed}
