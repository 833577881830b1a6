"""Chats as files: bring one in, take this one out, and what lies in the trash."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from errors import BadFile, InvalidInput
from modules.app import App
from modules.ui.chat_turns import Turns
from modules.ui.chat_view import Place, chat_list
from modules.ui.chat_window import Window, scope_of
from modules.ui.events import on, say, tell
from modules.ui.hand_out import HandOut
from modules.ui.picker import Entry, entries, picker

_LARGEST = 64_000_000


class ChatFiles:
    """A folded part of the drawer."""

    def __init__(self, app: App) -> None:
        self._app = app
        with gr.Accordion("Import, export, trash", open=False, elem_id="chat-files", elem_classes="rest") as self._fold:
            self._upload = gr.UploadButton(
                "Import a chat", file_types=[".json", ".jsonl"], size="sm", elem_id="chat-import"
            )
            with gr.Row(elem_classes="actions"):
                self._json = HandOut("Export as JSON", "chat-export")
                self._lines = HandOut("Export for SillyTavern", "chat-export-lines")
            self._trash = picker("chat-trash")

    def wire(
        self,
        window: gr.State,
        place: gr.State,
        scope: Sequence[Any],
        screen: Sequence[Any],
        chats: gr.HTML,
        turns: Turns,
        js: str,
    ) -> Any:
        """Connect it; `chats` is the list of chats, `js` runs where another chat is being opened.

        Returns the event after which it is open.
        """
        on(self._fold.expand, self._listed, None, [self._trash])
        on(self._trash.click, self._restore, [place], [self._trash, chats])

        archive, your_name = self._app.archive, scope[-1]

        def lines(place: Place, user: str) -> tuple[str, bytes]:
            kind, _, character = scope_of(place).partition("/")
            return archive.take(
                place.id, lines=True, user=user or "You", character=character if kind == "chat" else "Assistant"
            )

        self._json.wire(lambda place: archive.take(place.id), [place])
        self._lines.wire(lines, [place, your_name])

        def bring(window: Window, path: str, mode: str, character: str, _name: str) -> list[Any]:
            return turns.opened(window, turns.screen(self._bring(Path(path), mode, character), mode))

        return on(self._upload.upload, bring, [window, self._upload, *scope], screen, js=js)

    def _bring(self, path: Path, mode: str, character: str) -> Any:
        if path.stat().st_size > _LARGEST:
            raise InvalidInput(
                f"The file is larger than {_LARGEST // 1_000_000} MB: that is no chat. Nothing was read."
            )
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise BadFile(path.name, "it is not UTF-8 text", "Save it as UTF-8, then try again.") from None
        notes: list[str] = []
        made = self._app.archive.bring(text, mode, character or "Assistant", path.stem, notes)
        for note in notes:
            tell(note)
        return made

    def _listed(self) -> str:
        items = [Entry(info.id, info.title, detail=info.id) for info in self._app.archive.trash()]
        return entries("Deleted chats: a click restores one", items, "", "The trash is empty.")

    def _restore(self, place: Place, event: gr.EventData) -> list[Any]:
        made = self._app.archive.restore(event.pick)
        say(f"The chat is back: {made.id}.")
        return [self._listed(), chat_list(self._app.archive.around(place.id), place.id)]
