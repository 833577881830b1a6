"""Parameters, Character: a gallery; create, import, export, edit and delete characters and their pictures.

It asks the services for everything. The character of a chat is chosen in the Chat tab.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from errors import InvalidInput, UserError
from modules.app import App
from modules.chat.characters import Character
from modules.ui.chat.avatars import data_uri
from modules.ui.parts.events import Updates, on, show_info, then
from modules.ui.parts.file_download import FileDownload
from modules.ui.parts.formatting import escape
from modules.ui.parts.list_picker import make_picker
from modules.ui.texts import tr


class CharacterPage:
    """The sub-tab. `names` changes when characters are added or removed."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.edited = gr.State("")
        with gr.Column(elem_id="characters"):
            with gr.Row(elem_classes="actions"):
                self._new = gr.Button(tr("character.new"), size="sm", elem_id="character-new")
                self._upload = gr.UploadButton(
                    tr("character.import"), file_types=[".png", ".json", ".yaml", ".yml"], size="sm",
                    elem_id="character-upload", type="filepath",
                )  # fmt: skip
            self._gallery = make_picker("gallery", elem_classes="gallery")
            with gr.Column(elem_id="character-editor", elem_classes="card"):
                self._head = gr.HTML("", elem_id="character-head")
                self._file = gr.Textbox(label=tr("character.file"), max_lines=1, elem_id="character-file")
                self._called = gr.Textbox(
                    label=tr("character.name"), max_lines=1, elem_id="character-called", info=tr("character.name_info")
                )
                self._greeting = gr.Textbox(
                    label=tr("character.greeting"), lines=3, max_lines=10, elem_id="character-greeting",
                    info=tr("character.greeting_info"),
                )  # fmt: skip
                self._context = gr.Textbox(
                    label=tr("character.context"), lines=8, max_lines=24, elem_id="character-context",
                    info=tr("character.context_info"),
                )  # fmt: skip
                self._banned = gr.Textbox(
                    label=tr("character.banned"), lines=2, max_lines=10, elem_id="character-banned",
                    info=tr("character.banned_info"),
                )  # fmt: skip
                with gr.Row(elem_classes="actions"):
                    self.talk = gr.Button(tr("character.talk"), elem_id="character-talk")
                    self._save = gr.Button(tr("button.save"), variant="primary", elem_id="character-save")
                    self._card = FileDownload(tr("character.export"), "character-card")
                    self._picture = gr.UploadButton(
                        tr("character.picture"), file_types=["image"], elem_id="character-picture", type="filepath"
                    )
                    self._delete = gr.Button(tr("button.delete"), elem_id="character-delete")
                with gr.Row(elem_classes="asking", visible=False, elem_id="character-deleting") as self._asking:
                    self._question = gr.HTML("")
                    self._delete_yes = gr.Button(
                        tr("button.delete"), variant="stop", size="sm", elem_id="character-delete-now"
                    )
                    self._delete_no = gr.Button(tr("button.cancel"), size="sm")

    def wire(self, page: gr.Blocks, chosen: gr.Dropdown) -> None:
        """Connect the events; `chosen` is the character menu of the Chat tab."""
        shown = [
            self.edited, self._gallery, self._head, self._file, self._called, self._greeting, self._context,
            self._banned, self._asking,
        ]  # fmt: skip
        fields = [self.edited, self._file, self._called, self._greeting, self._context, self._banned]
        on(page.load, lambda name: self._show(name or "Assistant"), [self.edited], shown)
        on(self._gallery.click, self._pick, None, shown)
        on(self._new.click, self._fresh, None, shown)
        changed = [
            on(self._upload.upload, self._bring, [self._upload], shown),
            on(self._save.click, self._write, fields, shown),
            on(self._delete_yes.click, self._remove, [self.edited], shown),
        ]
        on(self._picture.upload, self._paint, [self.edited, self._picture], shown)
        self._card.wire(self._take, [self.edited])
        on(self._delete.click, self._ask, [self.edited], [self._question, self._asking])
        on(self._delete_no.click, lambda: gr.update(visible=False), None, [self._asking])
        for event in changed:
            then(event, lambda: gr.update(choices=self._app.characters.names()), None, [chosen])

    # --- actions ---

    def _show(self, name: str) -> Updates:
        try:
            who = self._app.characters.load(name)
        except UserError:
            if name == "Assistant":
                raise
            return self._show("Assistant")
        return self._screen(name, who)

    def _screen(self, name: str, who: Character) -> Updates:
        more = f"<p>{tr('character.greetings', n=len(who.greetings))}</p>" if who.greetings else ""
        return {
            self.edited: name,
            self._gallery: self._cards(name),
            self._head: f"<h2>{escape(who.name)}</h2>{more}",
            self._file: name,
            self._called: who.name,
            self._greeting: who.greeting,
            self._context: who.context,
            self._banned: who.banned_strings,
            self._asking: gr.update(visible=False),
        }

    def _cards(self, current: str) -> str:
        return gallery_html(self._app, current)

    def _pick(self, event: gr.EventData) -> Updates:
        return self._show(event.pick)

    def _fresh(self) -> Updates:
        fields = (self.edited, self._file, self._called, self._greeting, self._context, self._banned)
        return {
            **dict.fromkeys(fields, ""),
            self._gallery: self._cards(""),
            self._head: f"<h2>{tr('character.new')}</h2>",
            self._asking: gr.update(visible=False),
        }

    def _bring(self, path: str) -> Updates:
        file = Path(path)
        name = self._app.characters.import_card(file.read_bytes(), file.name)
        show_info(tr("character.imported", name=name), tr("character.talk"))
        return self._show(name)

    def _write(self, edited: str, file: str, called: str, greeting: str, context: str, banned: str) -> Updates:
        name = (file or called or "").strip()
        self._app.characters.save(
            name, called=called or "", greeting=greeting or "", context=context or "", banned_strings=banned or "",
            as_new=name != edited,
        )  # fmt: skip
        show_info(tr("character.saved", name=name))
        return self._show(name)

    def _paint(self, edited: str, path: str) -> Updates:
        if not edited:
            raise InvalidInput(tr("character.picture_unsaved"))
        self._app.characters.set_picture(edited, Path(path).read_bytes())
        return self._show(edited)

    def _take(self, edited: str) -> tuple[str, bytes]:
        if not edited:
            raise InvalidInput(tr("character.choose_export"))
        return f"{edited}.png", self._app.characters.export_card(edited)

    def _ask(self, edited: str) -> Updates:
        if not edited:
            raise InvalidInput(tr("character.choose_delete"))
        return {self._question: tr("character.ask", name=escape(edited)), self._asking: gr.update(visible=True)}

    def _remove(self, edited: str) -> Updates:
        self._app.characters.delete(edited)
        show_info(tr("character.deleted", name=edited))
        return self._show("Assistant")


def gallery_html(app: App, current: str) -> str:
    """All characters with small pictures."""
    made = []
    for name in app.characters.names():
        try:
            picture = app.characters.load(name).picture
        except UserError:
            picture = None
        uri = data_uri(picture)
        image = f"<img alt='' src='{uri}'>" if uri else f"<span>{escape(name[:1].upper())}</span>"
        mark = " aria-current='true'" if name == current else ""
        made.append(
            f"<button type='button' data-pick='{escape(name)}'{mark}>{image}<small>{escape(name)}</small></button>"
        )
    label = escape(tr("character.gallery"))
    return f"<nav aria-label='{label}'>{''.join(made)}</nav>"
